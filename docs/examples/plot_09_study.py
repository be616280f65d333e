"""
A study of losses, at matched sampling
======================================

The losses side by side on your own data, each compared with cross-entropy at the same
sampler.

"""

# %%
# :func:`~skimbal.study.compare_losses` fits every loss with every sampler on the same
# folds, from the same initial weights, for the same number of gradient steps. Two
# repeats of three folds keep this example short; a study that is to tell small
# differences needs more of both.

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
    estimator=CNN2DClassifier(max_epochs=3, lr=3e-3),
    cv=3,
    n_repeats=2,
    random_state=0,
    verbose=0,
)
study

# %%
# What can be said
# ----------------
#
# The sentences under the table come from paired differences on the same test rows,
# with a test that allows for the overlap of training sets and p-values that are
# adjusted for the number of comparisons.

study.plot()
plt.show()

# %%
# The differences themselves: an interval that holds 0 stands for a difference that
# could be none. One that does not may still be one of many, and so its marker is
# hollow where the adjusted p-value is not below 0.05.

LossStudyDisplay.from_study(study, kind="differences")
plt.show()

# %%
# Two causes, and how not to mix them
# -----------------------------------
#
# The best mix against cross-entropy without a sampler, and against cross-entropy with
# the same one:

mean = {(e.loss, e.sampler): e.mean for e in study.estimates()}
best = mean["ce+mcc", "balanced"]
print(f"ce+mcc balanced less ce uniform:  {best - mean['ce', 'uniform']:+.3f}")
print(f"ce+mcc balanced less ce balanced: {best - mean['ce', 'balanced']:+.3f}")
print(
    f"ce balanced less ce uniform:      "
    f"{mean['ce', 'balanced'] - mean['ce', 'uniform']:+.3f}"
)

# %%
# The first number is the third one: it is what the sampler does in these three epochs.
# Only the second one speaks of the loss.
#
# ``study.to_frame()`` has all scores, ``study.to_html("study.html")`` writes a report.
# This is how to go on with a configuration:

print(study.code("ce+mcc", "balanced"))
