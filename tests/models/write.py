"""Writes the models that later versions must load.

``python -m tests.models.write VERSION`` writes a file for each kind of model, with its predictions
beside it. The files of a version that was released stay as they are.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix
from skimbal.augmentation import RandomFlip, RandomGamma
from skimbal.datasets import load_imbalanced_digits


def _digits():
    data = load_imbalanced_digits()
    clf = CNN2DClassifier(
        loss="ce + 0.5*mcc",
        logit_adjustment=0.2,
        augment=["flip", RandomGamma(gamma=(0.8, 1.2))],
        sampler="uniform",
        net={"module__width": 4, "optimizer__weight_decay": 1e-3},
        max_epochs=2,
        random_state=0,
    )
    names = np.array(["zero", "one", "two"])
    return clf, data.X_train, names[data.y_train], data.X_test[:6]


def _volumes():
    rng = np.random.default_rng(0)
    X, y = rng.normal(50, 10, (30, 2, 6, 7, 8)).astype(np.float32), np.arange(30) % 3 == 0
    X[y, 1, 2:4, 2:5, 3:6] += 30
    clf = CNN3DClassifier(
        loss=LossMix(ce=1, f1=1, statistics="moving"),
        module="small",
        augment=[RandomFlip(axes=[-1])],
        crop_size=6,
        net={"module__width": 2, "module__norm": "batch"},
        max_epochs=2,
        random_state=np.int64(1),
    )
    return clf, X, y, X[:6]


#: Functions that return a classifier, images and labels to fit it, and images to predict.
MODELS = {"digits": _digits, "volumes": _volumes}


def write(version):
    """Write the models of a version."""
    for name, make in MODELS.items():
        clf, X, y, images = make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two epochs learn little
            clf.fit(X, y)
        path = Path(__file__).with_name(f"{name}-{version}.skimbal")
        clf.save(path, description="A small model for tests.", license="CC0-1.0")
        expected = {
            "classes": clf.classes_.tolist(),
            "probabilities": clf.predict_proba(images).tolist(),
            "train_loss": clf.history_[:, "train_loss"],
            "repr": repr(clf),
        }
        path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
