"""
A study of losses, at matched sampling
======================================

The losses side by side on your data, each compared with cross-entropy at the same
sampler.

"""

# %%
# :func:`~skimbal.study.compare_losses` fits every loss with every sampler on the same
# folds, from the same initial weights, for the same number of gradient steps. Two
# repeats of three folds keep this example short. To detect small differences, a study
# needs more of both.

import matplotlib.pyplot as plt

from skimbal import CNN2DClassifier
from skimbal.datasets import load_imbalanced_digits
from skimbal.displays import LossStudyDisplay
from skimbal.study import compare_losses

data = load_imbalanced_digits()
study = compare_losses(
    data.X_train,
    data.y_train,
    losses=["ce", "ce+f1", "ce+mcc"],
    samplers=["uniform", "balanced"],
    estimator=CNN2DClassifier(
        module="small", augment=None, batch_size=32, max_epochs=5
    ),
    cv=3,
    n_repeats=2,
    random_state=0,
    verbose=0,
)
study

# %%
# Conclusions
# -----------
#
# The sentences under the table come from paired differences on the same test rows,
# with a test that allows for the overlap of training sets and p-values that are
# adjusted for the number of comparisons.

study.plot()
plt.show()

# %%
# The next picture shows the differences. If an interval contains 0, there may be no
# difference. An interval that excludes 0 is one of many, so its marker is
# filled only if the adjusted p-value is below 0.05.

LossStudyDisplay.from_study(study, kind="differences")
plt.show()

# %%
# Separate the two causes
# -----------------------
#
# The best mix against cross-entropy without a sampler, and against cross-entropy with
# the same sampler:

mean = {(e.loss, e.sampler): e.mean for e in study.estimates()}
best = mean["ce+mcc", "balanced"]
print(f"ce+mcc balanced minus ce uniform:  {best - mean['ce', 'uniform']:+.3f}")
print(f"ce+mcc balanced minus ce balanced: {best - mean['ce', 'balanced']:+.3f}")
print(
    f"ce balanced minus ce uniform:      "
    f"{mean['ce', 'balanced'] - mean['ce', 'uniform']:+.3f}"
)

# %%
# The first number is close to the third, the effect of the sampler in three epochs.
# Only the second number is an effect of the loss.
#
# ``study.to_frame()`` has all scores, ``study.to_html("study.html")`` writes a report.
# ``study.code`` prints the code of a configuration:

print(study.code("ce+mcc", "balanced"))
