"""
Which places a classifier decides by
====================================

Maps by three methods, on images and volumes where the right place is known, and the
check with random weights that a method should pass.

"""

# %%
# The images are noise with a dark block. Half of them have a bright block too, the
# lesion. The dark block says nothing about the class, so a map should leave it out.

import matplotlib.pyplot as plt
import numpy as np
import torch

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.displays import ExplanationDisplay
from skimbal.explanation import explain


def draw_images(n, shape, size, seed):
    """Return images, labels, and a mask of the lesions."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, *shape)).astype(np.float32)
    y = np.array(["healthy", "lesion"])[np.arange(n) % 2]
    mask = np.zeros(X.shape, dtype=bool)
    for i in range(n):
        dark, bright = (
            tuple(
                slice(first, first + size)
                for first in [rng.integers(0, axis - size + 1) for axis in shape]
            )
            for _ in range(2)
        )
        X[(i, *dark)] -= 3
        if y[i] == "lesion":
            mask[(i, *bright)] = True
            X[(i, *bright)] = 3 + rng.normal(size=(size,) * len(shape))
    return X, y, mask


X, y, _ = draw_images(160, (28, 28), size=6, seed=0)
X_test, y_test, mask = draw_images(20, (28, 28), size=6, seed=1)
params = {"module": "residual", "batch_size": 20, "max_epochs": 12, "augment": None}
clf = CNN2DClassifier(**params, random_state=0).fit(X, y)
print("accuracy", clf.score(X_test, y_test))

# %%
# :class:`~skimbal.displays.ExplanationDisplay` draws an image alone and under its map.
# A solid line surrounds the places above half of the largest number, and a dashed line
# the places below minus half of it.

for method in ("gradcam", "integrated_gradients", "occlusion"):
    ExplanationDisplay.from_estimator(
        clf, X_test[:2], y=y_test[:2], method=method, target="lesion"
    )
plt.show()

# %%
# Look at the colour bars: the numbers of the healthy image are small. Its strongest
# place may be the dark block, which says nothing about the class. Each image has its
# own scale.
#
# How often is the maximum inside the lesion?
# -------------------------------------------
#
# :func:`~skimbal.explanation.explain` returns the maps as arrays. With random weights,
# the same network has other maps (Adebayo et al., 2018): a method whose maps stay the
# same shows the image and not the network.

ill = y_test == "lesion"


def share_of_hits(method):
    """Return the share of maps with the maximum inside the lesion."""
    maps = explain(clf, X_test[ill], method=method, target="lesion")
    places = maps.reshape(len(maps), -1).argmax(1)
    return mask[ill].reshape(len(maps), -1)[np.arange(len(maps)), places].mean()


trained = {method: share_of_hits(method) for method in ("gradcam", "occlusion")}
random = {method: [] for method in trained}
for seed in range(3):
    torch.manual_seed(seed)
    for layer in clf.net_.module_.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    for method, shares in random.items():
        shares.append(share_of_hits(method))
for method, hits in trained.items():
    print(f"{method:10s} trained {hits:.2f}, random {np.round(random[method], 2)}")

# %%
# Volumes
# -------
#
# A volume has a panel for each plane through the voxel with the largest number.

X, y, _ = draw_images(80, (12, 12, 12), size=4, seed=0)
X_test, y_test, _ = draw_images(2, (12, 12, 12), size=4, seed=1)
clf = CNN3DClassifier(**params, random_state=0).fit(X, y)
ExplanationDisplay.from_estimator(clf, X_test[1:], y=y_test[1:], method="occlusion")
plt.show()
