"""
From your network to a model in use
===================================

A PyTorch network on real vessel segments, in 3D: trained with balanced batches,
validated by patients, judged on test volumes, saved, and loaded with its class.

"""

# %%
# The data
# --------
#
# The volumes are a sample of VesselMNIST3D (MedMNIST v2, CC BY 4.0), which comes with
# the package: segments of brain vessels, one in nine with an aneurysm. Scores on so
# few volumes mean little: this page shows the steps.

import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from torch import nn

import skimbal
from skimbal import CNN3DClassifier
from skimbal.datasets import load_medmnist_sample
from skimbal.displays import LearningCurvesDisplay
from skimbal.evaluation import evaluate

data = load_medmnist_sample("vesselmnist3d")
names = np.array(data.target_names)
X, y = data.X_train, names[data.y_train]
X_test, y_test = data.X_test, names[data.y_test]
print(X.shape, X.dtype, Counter(y.tolist()))

fig, axes = plt.subplots(2, 6, figsize=(8, 3))
for row, name in zip(axes, names, strict=True):
    for ax, volume in zip(row, X[y == name], strict=False):
        ax.imshow(volume.sum(0, dtype=int), cmap="gray")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    row[0].set_ylabel(name)
fig.suptitle("Sums of six volumes of each class along one axis")
plt.show()

# %%
# The network
# -----------
#
# Any module that maps (n, channels, depth, height, width) to (n, classes) is a network.
# The classifier needs a factory, not a network, since each fit begins with new
# weights. The class itself is such a factory.


class VesselNet(nn.Sequential):
    """Three convolutions in steps of 2, a mean over all places, a linear layer."""

    def __init__(self, in_channels, n_classes):
        layers = []
        for width, kernel in ((8, 5), (16, 3), (32, 3)):
            layers += [
                nn.Conv3d(in_channels, width, kernel, stride=2, padding=kernel // 2),
                nn.GroupNorm(4, width),
                nn.ReLU(),
            ]
            in_channels = width
        super().__init__(
            *layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, n_classes)
        )


clf = CNN3DClassifier(
    "ce+mcc",
    module=VesselNet,
    sampler="balanced",
    augment="flip",
    batch_size=16,
    max_epochs=10,
    random_state=0,
)

# %%
# ``loss=`` takes a module of yours, too:
# :ref:`sphx_glr_auto_examples_plot_06_own_loss.py`.
#
# Validation
# ----------
#
# Volumes of one patient belong on one side of each split. MedMNIST does not publish its
# patients. The numbers here are made up, two volumes each, to show where yours go.

patients = np.arange(len(y)) // 2
folds = StratifiedGroupKFold(2, shuffle=True, random_state=0)
scores = cross_val_score(
    clf, X, y, groups=patients, cv=folds, scoring="balanced_accuracy"
)
print(f"balanced accuracy of the folds: {scores.round(2)}")

# %%
# The model, and its scores
# -------------------------
#
# Balanced batches give both classes the same weight, so ``predict`` finds more of the
# aneurysms, at the price of false alarms. Its probabilities are no risks before their
# prior is corrected: :doc:`/decisions`.

clf.fit(X, y)
LearningCurvesDisplay.from_estimator(clf)
plt.show()
result = evaluate(clf, X_test, y_test, random_state=0)
print(result.summary())

# %%
# A file, and another machine
# ---------------------------
#
# The file holds the weights and no code, so ``load`` needs the class of the network.
# Keep the class in a module that you copy with the file. A network that computes other
# logits with the weights is refused.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "model.skimbal")
    clf.save(path, description="Vessel segments of an example.")
    loaded = skimbal.load(path, module=VesselNet)
    try:
        skimbal.load(path)
    except ValueError as error:
        print(str(error).replace(folder, "..."))
print(loaded.predict(data.X_val[:5]))
print(np.array_equal(loaded.predict_proba(data.X_val), clf.predict_proba(data.X_val)))

# %%
# :doc:`/export` writes a file that programs without Python and without the class can
# run.
