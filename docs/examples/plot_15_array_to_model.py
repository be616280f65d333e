"""
From an array to a model in use
===============================

Real chest X-rays as an array: cross-validation that keeps patients together, a
choice, scores with intervals, decisions by costs, and a file that another process
loads.

"""

# %%
# The data
# --------
#
# The array is a sample of PneumoniaMNIST (MedMNIST v2, CC BY 4.0), which comes with
# the package. One X-ray in six is normal. Scores on so few images mean little: this
# page shows the steps.

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

from skimbal import CNN2DClassifier
from skimbal.datasets import load_medmnist_sample
from skimbal.evaluation import evaluate
from skimbal.thresholds import CostMatrixClassifier

data = load_medmnist_sample("pneumoniamnist")
names = np.array(data.target_names)
X, y = data.X_train, names[data.y_train]
X_test, y_test = data.X_test, names[data.y_test]
print(X.shape, X.dtype, Counter(y.tolist()))

fig, axes = plt.subplots(2, 6, figsize=(8, 3))
for row, name in zip(axes, names, strict=True):
    for ax, image in zip(row, X[y == name], strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    row[0].set_ylabel(name)
fig.suptitle("Six X-rays of each class")
plt.show()

# %%
# Validation
# ----------
#
# Images of one patient are alike, so all images of a patient belong on one side of
# each split. ``groups`` says which image is from which patient. MedMNIST does not
# publish its patients. The numbers here are made up, two images each, to show where
# yours go.

patients = np.arange(len(y)) // 2
clf = CNN2DClassifier(
    module="small", augment=None, batch_size=32, max_epochs=8, random_state=0
)
search = GridSearchCV(
    clf,
    {"sampler": ["uniform", "balanced"]},
    scoring="balanced_accuracy",
    cv=StratifiedGroupKFold(2, shuffle=True, random_state=0),
    refit=False,
)
search.fit(X, y, groups=patients)
for params, mean in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{params['sampler']:9s} {mean:.3f}")

# %%
# Two folds of 270 images cannot tell them apart. :func:`~skimbal.study.compare_losses`
# has intervals and tests for such a choice, see :doc:`/study`. The model below takes
# uniform batches, as its probabilities then refer to a population like the training
# images.
#
# The model, and its scores
# -------------------------
#
# The test images had no part in the choice. The intervals are from a bootstrap.

clf.set_params(sampler="uniform").fit(X, y)
result = evaluate(clf, X_test, y_test, random_state=0)
print(result.summary())

# %%
# Decisions
# ---------
#
# ``predict`` takes the most probable class. Suppose that a missed pneumonia costs five
# times as much as a false alarm. The costs decide, not a threshold that looked good on
# the test images.

costs = {("pneumonia", "normal"): 5, ("normal", "pneumonia"): 1}  # (true, decision)
careful = CostMatrixClassifier(clf, cost_matrix=costs)
for rule, model in (("most probable class", clf), ("least expected cost", careful)):
    decisions = model.predict(X_test)
    missed = np.sum((y_test == "pneumonia") & (decisions == "normal"))
    alarms = np.sum((y_test == "normal") & (decisions == "pneumonia"))
    print(f"{rule}: {missed} pneumonias missed, {alarms} false alarms")

# %%
# A file, and another machine
# ---------------------------
#
# The file holds weights, classes and the form of the input, and no code. Another
# process, which knows nothing but two files, loads it and predicts.

with tempfile.TemporaryDirectory() as folder:
    clf.save(Path(folder, "model.skimbal"), description="X-rays of an example.")
    np.save(Path(folder, "new.npy"), data.X_val[:5])
    program = """
import numpy as np
import skimbal

clf = skimbal.load("model.skimbal")
print(clf.classes_, clf.input_.shape, clf.input_.dtype)
print(clf.predict_proba(np.load("new.npy")).round(3))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
print(done.stdout)
print(clf.predict_proba(data.X_val[:5]).round(3))

# %%
# The two tables are equal. :doc:`/models_in_use` has a list of checks before a model
# informs decisions about patients.
