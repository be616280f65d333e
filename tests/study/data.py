"""Studies with made-up scores, and quick fits."""

import weakref

import numpy as np
import pytest
from imblearn.over_sampling import RandomOverSampler
from sklearn.model_selection import StratifiedKFold

from skimbal import CNN2DClassifier
from skimbal.datasets import DataCard
from skimbal.sampling import STRATEGIES
from skimbal.study import Configuration, Fit, LossStudy, compare_losses
from skimbal.study.plan import StudyData, combine
from tests.plain import plain

CLASSES = ("cyst", "normal", "tumour")
#: A reference and a loss that is compared with it.
PAIR = ["ce", "ce+mcc"]
#: A name of 67 characters.
LONG = "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)"


def quick(**params):
    return plain(**{"max_epochs": 1, "batch_size": 32, **params})


def compare(X, y, **kwargs):
    options = {
        "losses": ["ce"],
        "samplers": ["uniform"],
        "estimator": quick(),
        "cv": 2,
        "random_state": 0,
        "verbose": 0,
    }
    return compare_losses(X, y, **{**options, **kwargs})


def few_or_many(**many):
    """Return a mark for tests of few fits that are slow with the options for many fits."""
    cases = [{}, pytest.param(many, marks=pytest.mark.slow)]
    return pytest.mark.parametrize("options", cases, ids=["few", "many"])


def one_split(X, y):
    """Make the first of two stratified folds."""
    return [next(iter(StratifiedKFold(2).split(X, y)))]


#: The calls of scorers. A cache compares the code of a scorer, and not what is in such a mapping.
_CALLS = weakref.WeakKeyDictionary()


class Counted:
    """A scorer that notes its calls in a list, and may fail at one of them."""

    def __init__(self, calls, fail_at):
        _CALLS[self] = calls, fail_at

    def __call__(self, estimator, X, y):
        calls, fail_at = _CALLS[self]
        calls.append(1)
        if len(calls) == fail_at:
            raise RuntimeError("out of memory, say")
        return 0.5


def counted(calls, *, fail_at=None):
    return Counted(calls, fail_at)


def never(in_channels, n_classes, **options):
    pytest.fail("a network was built although the call should have been refused")


def made_up(scores, *, ratio=0.25, has_test_set=False, scoring="balanced_accuracy", steps=None):
    """Make a study from scores: {(loss, sampler, reference): [score of each fit]}."""
    configurations = [
        Configuration(loss, sampler, reference, {"loss": "ce", "sampler": "uniform"})
        for loss, sampler, reference in scores
    ]
    n_splits = max(map(len, scores.values()))
    study = LossStudy(
        configurations,
        classes=np.array([0, 1]),
        scoring=scoring,
        estimator=CNN2DClassifier(),
        data=DataCard.from_labels({"all": [0, 1]}, image_shape=(8, 8), dtype="uint8"),
        seed=0,
        splitting="made up",
        n_splits=n_splits,
        has_test_set=has_test_set,
    )
    for (loss, sampler, _), values in scores.items():
        for fold, value in enumerate(values):
            study.fits.append(
                Fit(
                    loss=loss,
                    sampler=sampler,
                    repeat=0,
                    fold=fold,
                    seed=0,
                    n_train=100,
                    n_test=round(100 * ratio),
                    n_epochs=1,
                    n_steps=5 if steps is None else steps[loss],
                    fit_time=1.0,
                    score_time=0.1,
                    scores=dict.fromkeys(study.score_names, value),
                    confusion_matrix=[[1, 2], [3, 4]],
                )
            )
    return study


def reported(
    classes=CLASSES,
    losses=("ce", "ce+mcc"),
    samplers=("uniform", "balanced"),
    n_splits=3,
    n_done=None,
    estimator=None,
    params=None,
    scoring="balanced_accuracy",
    has_test_set=False,
):
    """A study with made-up scores, of which the last loss has the best ones."""
    rng = np.random.default_rng(0)
    classes = np.array(sorted(classes))
    n_classes = len(classes)
    labels = np.repeat(classes, 30 * np.arange(1, n_classes + 1))
    estimator = CNN2DClassifier() if estimator is None else estimator
    configurations = combine(
        {loss: {"loss": "ce", **((params or {}) if loss == losses[-1] else {})} for loss in losses},
        {
            sampler: sampler if sampler in STRATEGIES else RandomOverSampler()
            for sampler in samplers
        },
        losses[0],
        StudyData(None, labels),
        estimator,
    )
    study = LossStudy(
        configurations,
        classes=classes,
        scoring=scoring,
        estimator=estimator,
        data=DataCard.from_labels(
            {"all": labels},
            image_shape=(28, 28),
            dtype="uint8",
            groups={"all": np.arange(len(labels)) // 2},
        ),
        seed=7,
        splitting="stratified group 3-fold cross-validation",
        n_splits=n_splits,
        has_test_set=has_test_set,
    )
    for number, c in enumerate(configurations):
        for fold in range(n_splits):
            scores = rng.uniform(0.5, 0.52, len(study.score_names)) + 0.02 * number
            confusion = rng.integers(0, 5, (n_classes, n_classes)) + 9 * np.eye(n_classes)
            study.fits.append(
                Fit(
                    loss=c.loss,
                    sampler=c.sampler,
                    repeat=0,
                    fold=fold,
                    seed=fold,
                    n_train=120,
                    n_test=60 + fold,
                    n_epochs=3,
                    n_steps=30,
                    fit_time=100.0,
                    score_time=1.0,
                    scores=dict(zip(study.score_names, scores.tolist(), strict=True)),
                    confusion_matrix=confusion.astype(int).tolist(),
                )
            )
    study.fits = study.fits[:n_done]
    return study


def fit_of(key):
    """Make a finished fit whose scores follow from its key."""
    number = float(np.random.default_rng(list(key.encode())).uniform())
    return Fit(
        loss=key,
        sampler="uniform",
        repeat=0,
        fold=0,
        seed=0,
        n_train=8,
        n_test=2,
        n_epochs=1,
        n_steps=1,
        fit_time=1.0,
        score_time=0.1,
        scores={"f1_macro": number, "log_loss": 0.1 + number},
        confusion_matrix=[[1, 0], [0, 1]],
    )
