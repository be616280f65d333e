"""
Early stopping in a cross-validation, without leaks
===================================================

Each fold stops by rows of its training part, and is scored on rows that it never saw.

"""

# %%
# skorch's callbacks monitor and stop the training. ``train_split=0.2`` holds back a
# fifth of the rows that ``fit`` is given, stratified.
# :class:`~skorch.callbacks.EpochScoring` scores them after each epoch, and
# :class:`~skorch.callbacks.EarlyStopping` ends the training when the score has
# not risen for some epochs. ``load_best=True`` then restores the weights of
# the best epoch.

import matplotlib.pyplot as plt
import numpy as np
from imblearn.over_sampling import RandomOverSampler
from sklearn.model_selection import (
    StratifiedKFold,
    cross_validate,
    train_test_split,
)
from skorch.callbacks import Callback, EarlyStopping, EpochScoring

from skimbal import CNN2DClassifier
from skimbal.datasets import load_imbalanced_digits
from skimbal.displays import LearningCurvesDisplay

data = load_imbalanced_digits()
X, y = data.X_train, data.y_train


class KeepRows(Callback):
    """Keep the images that train and those that decide when to stop."""

    def on_epoch_begin(self, net, dataset_train, dataset_valid, **kwargs):
        self.train_, self.valid_ = dataset_train.X, dataset_valid.X


early_stopping = EarlyStopping(
    monitor="balanced_accuracy", lower_is_better=False, patience=4, load_best=True
)
clf = CNN2DClassifier(
    module="small",
    sampler="balanced",
    augment=None,
    batch_size=64,
    train_split=0.2,
    max_epochs=30,
    callbacks=[
        ("score", EpochScoring("balanced_accuracy", lower_is_better=False)),
        ("stop", early_stopping),
        ("rows", KeepRows()),
    ],
    lr=3e-4,
    lr_schedule=None,
    random_state=0,
)
folds = StratifiedKFold(3, shuffle=True, random_state=0)
result = cross_validate(
    clf,
    X,
    y,
    cv=folds,
    scoring="balanced_accuracy",
    return_estimator=True,
    return_indices=True,
)
print(f"epochs: {[fold.n_epochs_ for fold in result['estimator']]}")
print(f"balanced accuracy of the folds: {result['test_score'].round(3)}")

# %%
# Three separate sets of rows
# ---------------------------
#
# Each fold has three sets of rows: the first trains, the second decides when to
# stop, and the third gives the score. No image is in two of them, although the
# batches are balanced by repeating rows. The repetition happens after the
# split, and in the training rows only.


def distinct(images):
    return {image.tobytes() for image in images}


for fold, test in zip(result["estimator"], result["indices"]["test"], strict=True):
    rows = dict(fold.net_.callbacks_)["rows"]
    trains, stops, scores = map(
        distinct, (rows.train_[:, 0], rows.valid_[:, 0], X[test])
    )
    shared = len(trains & stops) + len(trains & scores) + len(stops & scores)
    print(
        f"{len(trains)} train, {len(stops)} stop, {len(scores)} score, {shared} shared"
    )

# %%
# The curves of the first fold
# ----------------------------

LearningCurvesDisplay.from_estimator(
    result["estimator"][0], scores=["balanced_accuracy"]
)
plt.show()

# %%
# Two ways to leak
# ----------------
#
# *To stop by the rows that score.* The best epoch of a curve was picked because it is
# the best, luck included, and tends to lie above the score of further rows. The best
# score of the rows that stop, beside the score of the held-out rows:

for fold, score in zip(result["estimator"], result["test_score"], strict=True):
    best = max(fold.history_[:, "balanced_accuracy"])
    print(f"rows that stop, best epoch: {best:.3f}; rows that score: {score:.3f}")

# %%
# In two of the three folds it is above. There are about seven images of each rare
# class among the rows that stop and fourteen among the rows that score, so noise can
# reverse the order. Report only the second number.
#
# *To repeat rare rows before the split.* A copy of a training row among the
# rows that stop measures memory, not learning:

rows, labels = RandomOverSampler(random_state=0).fit_resample(
    np.arange(len(y))[:, None], y
)
train, stop = train_test_split(
    rows[:, 0], test_size=0.2, stratify=labels, random_state=0
)
rare = stop[y[stop] > 0]
share = np.isin(rare, train).mean()
print(f"{share:.0%} of the rare rows that stop have a copy in training")

# %%
# ``sampler=`` does not leak, as it acts after ``train_split``. A sampler in a
# pipeline *before* a classifier that has a ``train_split`` leaks: inside a
# fold, the sampler comes first and the split second. With early stopping, use
# ``sampler=``, or pass a validation set that was held out before, with
# :func:`skorch.helper.predefined_split`.
