"""Fits of every kind on CUDA agree with the CPU, and leave no memory, no race and no mix."""

import copy
import gc
import pickle
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping, EpochScoring, GradientNormClipping

from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix
from tests import rehearsal
from tests.plain import plain

SENT = {"iterator_train__memory_share": 0.0}
SCORE = EpochScoring("balanced_accuracy", lower_is_better=False)


class Case(NamedTuple):
    """Parameters of a fit, and the difference of probabilities that rounding explains."""

    params: dict
    tolerance: float | None = 1e-4
    classifier: type = CNN2DClassifier


CASES = {
    "resident": Case({}),
    "sent": Case({"net": SENT}),
    "weighted": Case({"net": SENT, "class_weight": "balanced", "train_split": 0.25}),
    "volumes": Case({}, classifier=CNN3DClassifier),
    # No volumes in bfloat16: torch's kernels of the CPU have wrong gradients for few voxels.
    "float16": Case({"dtype": "float16"}, 0.1),
    "float16, clipped": Case(
        {"dtype": "float16", "micro_batch_size": 5, "callbacks": [GradientNormClipping(1.0)]}, 0.1
    ),
    "bfloat16": Case({"dtype": "bfloat16"}, 0.1),
    "float64": Case({"dtype": "float64"}, 1e-9),
    "in parts, moving": Case(
        {"micro_batch_size": 5, "loss": LossMix(ce=1, mcc=1, statistics="moving")}
    ),
    "all terms": Case(
        {"loss": "ce+wce+focal+f1+mcc+la+balanced_softmax+ldam", "sampler": "balanced"}
    ),
    "augmented": Case({"augment": "paper", "crop_size": 6, "n_tta": 3}, 1e-2),
    "augmented volumes": Case({"augment": "paper", "crop_size": 6}, 1e-2, CNN3DClassifier),
    "batch norm": Case(
        {"module": "resnet18", "net": {"module__norm": "batch", "module__width": 4}}, 1e-3
    ),
    "stopped early": Case(
        {"train_split": 0.25, "callbacks": [SCORE, EarlyStopping(load_best=True)]}
    ),
    "lbfgs": Case({"optimizer": "lbfgs", "lr": 0.1, "net": {"optimizer__max_iter": 3}}, None),
    "adam, not fused": Case({"net": {"optimizer__fused": False}}),
    "second device": Case({"device": "cuda:1"}),
    "second device, sent": Case({"device": "cuda:1", "net": SENT, "dtype": "float16"}, 0.1),
}


def images(ndim, n=60):
    """Two classes that a bright corner tells apart."""
    y = np.arange(n) % 3 % 2
    X = np.random.default_rng(0).normal(size=(n, *[8] * ndim)).astype(np.float32)
    X[(y == 1, *[slice(4)] * ndim)] += 1
    return X, y


def make(case, **more):
    params = {"max_epochs": 2, "batch_size": 16, "random_state": 0, "device": "cuda"}
    return plain(case.classifier, **copy.deepcopy({**params, **case.params, **more}))


def use(case, X, y):
    """Fit, predict, pickle and train on; return probabilities of the fit."""
    clf = make(case).fit(X, y)
    wanted = torch.device(clf.device)
    device = next(clf.net_.module_.parameters()).device
    assert device == torch.device("cuda", wanted.index or 0)
    probabilities = clf.predict_proba(X)
    assert np.isfinite(probabilities).all()
    clf.partial_fit(X, y)
    clf.transform(X)
    again = pickle.loads(pickle.dumps(clf)).predict_proba(X)
    np.testing.assert_allclose(again, clf.predict_proba(X), atol=1e-5)
    return probabilities


def memory():
    gc.collect()
    return [torch.cuda.memory_allocated(i) for i in range(torch.cuda.device_count())]


@pytest.mark.cuda
@pytest.mark.parametrize("name", CASES)
def test_a_fit_agrees_with_the_cpu(name):
    case = CASES[name]
    if name.startswith("second device") and torch.cuda.device_count() < 2:
        pytest.skip("needs a CUDA device beside the first")
    X, y = images(len(case.classifier.spatial_axes))
    kinds = ("mix", "race", "lifetime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fits of two epochs are warned of
        if rehearsal.can_count(*kinds):
            before = memory()
            with rehearsal.account(*kinds) as events:
                probabilities = use(case, X, y)
            assert not events.count(), events
            assert memory() == before
        else:
            probabilities = use(case, X, y)
        if case.tolerance is not None:
            expected = make(case, device="cpu").fit(X, y).predict_proba(X)
            np.testing.assert_allclose(probabilities, expected, atol=case.tolerance)
