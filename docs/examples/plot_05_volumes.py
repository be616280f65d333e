"""
Volumes, and small batches
==========================

The 3D classifier on generated volumes with a rare lesion, in batches of four.

"""

# %%
# 150 volumes of 16 x 16 x 16 voxels of smooth noise. One in six has a bright
# ball somewhere.

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import balanced_accuracy_score

from skimbal import CNN3DClassifier, LossMix

SIZE = 16
rng = np.random.default_rng(0)
y = np.arange(150) % 6 == 0
X = gaussian_filter(rng.normal(size=(len(y), SIZE, SIZE, SIZE)), (0, 1, 1, 1))
X /= X.std()
grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"))
centres = rng.integers(5, 11, size=(len(y), 3))
for i in np.flatnonzero(y):
    distance = np.linalg.norm(grid - centres[i][:, None, None, None], axis=0)
    X[i][distance <= 3] += 2
X = (40 * X + 128).clip(0, 255).astype(np.uint8)  # as in files of scanners

train, test = np.arange(len(y)) < 90, np.arange(len(y)) >= 90
print(
    f"{X.shape}, {X.dtype}; {y[train].sum()} lesions in {train.sum()} training volumes"
)

fig, axes = plt.subplots(2, 5, figsize=(8, 3.4))
for axes_of_class, label in zip(axes, (True, False), strict=True):
    for ax, i in zip(axes_of_class, np.flatnonzero(y == label), strict=False):
        ax.imshow(X[i, centres[i, 0]], cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    axes_of_class[0].set_ylabel("lesion" if label else "none")
fig.suptitle(
    "One slice of ten volumes; where there is a lesion, the one through its centre"
)
plt.show()

# %%
# Batches of four
# ---------------
#
# Few volumes fit into the memory of a device. With one case in six, about half
# of the batches of four hold no lesion at all, and a metric of such a batch
# says nothing. The history counts these batches. There are three remedies: balanced
# batches, statistics that remember the last batches, and the exact gradient
# of a batch of 16 in the memory of four.

moving = LossMix(ce=1, mcc=1, statistics="moving")
settings = {
    'sampler="uniform"': {"batch_size": 4, "sampler": "uniform"},
    'sampler="balanced"': {"batch_size": 4, "sampler": "balanced"},
    'statistics="moving"': {"batch_size": 4, "sampler": "uniform", "loss": moving},
    "micro_batch_size=4": {
        "batch_size": 16,
        "sampler": "uniform",
        "micro_batch_size": 4,
    },
}
plain = {
    "loss": "ce+mcc",
    "module": "small",
    "augment": None,
    "max_epochs": 5,
    "lr": 3e-3,
}
for name, params in settings.items():
    clf = CNN3DClassifier(random_state=0, **{**plain, **params})
    y_pred = clf.fit(X[train], y[train]).predict(X[test])
    counts = [
        sum(clf.history_[:, f"{what}_batch_count"]) for what in ("incomplete", "train")
    ]
    score = balanced_accuracy_score(y[test], y_pred)
    print(
        f"{name:25s} {counts[0]:3d} of {counts[1]:3d} batches lacked a class; "
        f"balanced accuracy {score:.2f}"
    )

# %%
# Read the counts of this table, not its scores: the test part has
# ten lesions, each setting trained once, and the numbers of gradient steps differ.
# :doc:`/small_batches` compares these settings over seeds on real volumes.
