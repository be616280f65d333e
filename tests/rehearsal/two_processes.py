"""A program for torchrun: train together on two devices, and write scores and events of each fit.

torchrun --standalone --nproc_per_node 2 tests/rehearsal/two_processes.py FOLDER
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch.distributed as dist

from tests import rehearsal
from tests.plain import plain

SENT = {"iterator_train__memory_share": 0.0}
CASES = {
    "resident": {},
    "float16": {"dtype": "float16"},
    "in parts": {"micro_batch_size": 4},
    "sent, with scores": {"train_split": 0.25, "net": SENT},
}


def images():
    """Two classes that a bright corner tells apart."""
    y = np.arange(64) % 2
    X = np.random.default_rng(0).normal(size=(64, 12, 12)).astype(np.float32)
    X[y == 1, :4, :4] += 2
    return X, y


def fit(params, device="cuda", **more):
    clf = plain(max_epochs=3, batch_size=16, device=device, random_state=0, **params, **more)
    return clf.fit(*images())


def main(folder):
    dist.init_process_group("gloo" if rehearsal.is_pretended() else "nccl")
    kinds = rehearsal.USUAL if rehearsal.is_pretended() else ("wait",)
    results = {}
    for name, params in CASES.items():
        with rehearsal.account(*kinds) as events:
            clf = fit(params, distributed=True)
        n_steps = sum(clf.history_[:, "train_batch_count"])
        X, y = images()
        results[name] = {
            "device": str(next(clf.net_.module_.parameters()).device),
            "probabilities": clf.predict_proba(X).tolist(),
            "accuracy": clf.score(X, y),
            "n_steps": n_steps,
            "in every step": [
                f"{n / n_steps:.1f} {' '.join(event)}"
                for event, n in sorted(events.events.items())
                if n >= n_steps
            ],
            "kinds": {kind: events.count(kind) for kind in kinds},
        }
    Path(folder, f"{dist.get_rank()}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
