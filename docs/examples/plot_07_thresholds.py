"""
Probabilities and thresholds after rebalancing
==============================================

The effect of balanced batches on the probabilities, their calibration to risks, and the
choice of a threshold.

"""

# %%
# Balanced training predicts for a population in which the classes are equally
# common. Its probabilities of a rare class are too high for the population that
# the data come from. Three parts of the data have three roles: one trains, one
# calibrates and sets the threshold, one gives the results. Noise makes the
# digits hard enough for uncertain predictions.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    average_precision_score,
    balanced_accuracy_score,
    log_loss,
)
from sklearn.model_selection import TunedThresholdClassifierCV, train_test_split

from skimbal import CNN2DClassifier
from skimbal.thresholds import PriorCorrectedClassifier, TunedOffsetsClassifierCV

digits = load_digits()
y = digits.target == 8
X = digits.images + np.random.default_rng(0).normal(scale=4, size=digits.images.shape)
X = X.astype("float32")
X_train, X_rest, y_train, y_rest = train_test_split(
    X, y, train_size=900, stratify=y, random_state=0
)
X_cal, X_test, y_cal, y_test = train_test_split(
    X_rest, y_rest, train_size=400, stratify=y_rest, random_state=0
)
shares = [round(float(part.mean()), 3) for part in (y_train, y_cal, y_test)]
print(f"share of the rare class in the three parts: {shares}")

small = {"module": "small", "augment": None, "batch_size": 64, "random_state": 0}
clf = CNN2DClassifier(loss="ce+mcc", sampler="balanced", max_epochs=1, **small)
clf.fit(X_train, y_train)

# %%
# Calibration
# -----------
#
# :class:`~sklearn.frozen.FrozenEstimator` keeps
# :class:`~sklearn.calibration.CalibratedClassifierCV` from training anew: it
# only fits a sigmoid to the logits of the calibration rows.


def calibrate(model):
    return CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(
        X_cal, y_cal
    )


def describe(name, model):
    risk = model.predict_proba(X_test)[:, 1]
    print(
        f"{name:20s} mean probability {risk.mean():.3f}, "
        f"log loss {log_loss(y_test, risk):.3f}, "
        f"average precision {average_precision_score(y_test, risk):.3f}"
    )


calibrated = calibrate(clf)
models = {"balanced training": clf, "calibrated": calibrated}
for name, model in models.items():
    describe(name, model)

# %%
# Before calibration, the mean probability is above the share of the rare class,
# as expected from balanced batches. After calibration it is close to the share, and
# the log loss is lower. The average precision is the same: it depends on the order
# of the rows only, which a sigmoid does not change.
#
# The shift of the classes is not the only cause of bad probabilities. A network
# that trains longer memorises the repeated rows and becomes overconfident, in
# both directions. Its log loss is higher although its mean
# probability is lower, and calibration repairs that too:

longer = clone(clf).set_params(max_epochs=12).fit(X_train, y_train)
describe("trained longer", longer)
describe("the same, calibrated", calibrate(longer))

# %%
# The other way to risks keeps the order of the training: the correction of the prior.
# :class:`~skimbal.thresholds.PriorCorrectedClassifier` moves the probabilities to the
# shares of the calibration rows. It finds the prior that the probabilities refer to in
# these rows, too, as a network that knows its repeated rows by heart does not keep to
# the prior of its batches.

corrected = PriorCorrectedClassifier(
    FrozenEstimator(clf), training_prior="estimated"
).fit(X_cal, y_cal)
describe("prior corrected", corrected)
print(f"prior of the batches: {clf.effective_prior_.round(2)}")
print(f"prior of the probabilities: {corrected.training_prior_.round(2)}")

# %%
# Curves of the first two, before and after calibration:

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for (name, model), marker in zip(models.items(), "os", strict=True):
    CalibrationDisplay.from_estimator(
        model,
        X_test,
        y_test,
        n_bins=6,
        strategy="quantile",
        name=name,
        ax=left,
        marker=marker,
    )
PrecisionRecallDisplay.from_estimator(
    clf, X_test, y_test, ax=right, plot_chance_level=True
)
left.set_title("Probability against frequency")
right.set_title("The same curve before and after")
plt.show()

# %%
# Thresholds
# ----------
#
# A calibrated risk of 0.5 is a high bar for a rare class. The right threshold
# depends on the score to maximise.
# :class:`~sklearn.model_selection.TunedThresholdClassifierCV` finds the threshold
# for a score, on rows that did not train the network.

tuned = TunedThresholdClassifierCV(
    FrozenEstimator(calibrated),
    scoring="balanced_accuracy",
    cv="prefit",
    refit=False,
).fit(X_cal, y_cal)
print(f"threshold for balanced accuracy: {tuned.best_threshold_:.3f}")

predictions = {
    "balanced training": clf.predict(X_test),
    "calibrated, at 0.5": calibrated.predict(X_test),
    "calibrated, tuned": tuned.predict(X_test),
}
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for ax, (name, y_pred) in zip(axes, predictions.items(), strict=True):
    ConfusionMatrixDisplay.from_predictions(
        y_test, y_pred, normalize="true", cmap="cividis", colorbar=False, ax=ax
    )
    ax.grid(False)
    ax.label_outer()
    ax.set_title(
        f"{name}\nbalanced accuracy {balanced_accuracy_score(y_test, y_pred):.3f}"
    )
plt.show()

# %%
# At 0.5 the calibrated classifier finds the fewest rare rows: calibration turns
# probabilities into risks, and does not find more rows. With a tuned threshold it
# finds about as many as the balanced training did at 0.5, and its probabilities
# are risks. The threshold was chosen on the calibration rows.
# Chosen on the test rows, it would look too good.

# %%
# :class:`~skimbal.thresholds.TunedOffsetsClassifierCV` does the same for any number of
# classes, with an offset of the log-probability for each class. For two classes, the
# offset is the threshold in another form. The search takes the middle of all thresholds
# with the best score, scikit-learn the first on a grid. :doc:`/decisions` has costs,
# three classes, and the order of the steps.

offsets = TunedOffsetsClassifierCV(calibrated, cv="prefit", refit=False)
offsets.fit(X_cal, y_cal)
threshold = 1 / (1 + np.exp(offsets.offset_of_class_[True]))
print(f"offset of the rare class: {offsets.offset_of_class_[True]:.3f}")
print(f"as a threshold: {threshold:.3f}")

# %%
# Rebalancing at prediction
# -------------------------
#
# The alternative is training on uniform batches, and a correction at prediction.
# ``logit_adjustment=1`` subtracts the log of the class shares from the logits. The
# predictions are then made for a balanced population, without a new fit.

plain = CNN2DClassifier(loss="ce", sampler="uniform", max_epochs=4, **small)
plain.fit(X_train, y_train)
for tau in (0.0, 1.0):
    plain.set_params(logit_adjustment=tau)
    score = balanced_accuracy_score(y_test, plain.predict(X_test))
    describe(f"logit_adjustment={tau:.0f}", plain)
    print(f"{'':20s} balanced accuracy {score:.3f}")

# %%
# The adjustment raises the balanced accuracy of the predictions, and the probabilities
# then refer to a balanced population. Without it the probabilities are close to risks:
# one network serves both, with ``predict_proba`` at 0 and ``predict`` at 1.
