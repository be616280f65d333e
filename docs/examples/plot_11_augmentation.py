"""
Augmentation
============

The effect of each operation on an image and on a volume, before and after.

"""

# %%
# An image and a volume
# ---------------------
#
# The image is a drawn slice of a head with a bright lesion and a dark cavity,
# brighter towards one end as if near a coil. The volume is the same in three
# dimensions. Neither is symmetric, so a flip is visible.

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from skimbal import CNN2DClassifier
from skimbal.augmentation import (
    CenterCrop,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomGamma,
    RandomGaussianBlur,
    RandomSigmoidContrast,
    get_augmentation,
)
from skimbal.datasets import load_imbalanced_digits

rng = np.random.default_rng(0)


def ellipsoid(grid, centre, radii):
    """Tell which points of a grid lie in an ellipsoid."""
    return (
        sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True))
        <= 1
    )


def head(size, n_axes):
    """Draw a head of any number of axes, with values from 0 to about 200."""
    grid = np.meshgrid(*[np.linspace(-1, 1, size)] * n_axes, indexing="ij")
    image = 120.0 * ellipsoid(grid, [0] * n_axes, [0.9, 0.72, 0.8][:n_axes])
    image -= 60 * ellipsoid(grid, [0.1, 0.25, -0.2][:n_axes], [0.4, 0.15, 0.3][:n_axes])
    image += 70 * ellipsoid(grid, [0.35, -0.3, 0.3][:n_axes], [0.2] * n_axes)
    image *= 1 + 0.3 * grid[0]
    image += gaussian_filter(rng.normal(size=image.shape), 1) * 20 * (image > 0)
    return gaussian_filter(image, 0.5).clip(0).astype(np.float32)


image = torch.from_numpy(head(64, 2))[None, None]  # (1, 1, 64, 64)
volume = torch.from_numpy(head(32, 3))[None, None]  # (1, 1, 32, 32, 32)


def show(before, after, title):
    """Draw a slice of an image before and after, and the distribution of its values."""
    pair = [
        x[0, 0] if x.ndim == 4 else x[0, 0, 2 * x.shape[2] // 3]
        for x in (before, after)
    ]
    fig, axes = plt.subplots(1, 3, figsize=(7.5, 2.6), width_ratios=(1, 1, 1.1))
    bottom, top = float(before.min()), float(before.max())
    for ax, picture, name in zip(axes, pair, ("before", "after"), strict=False):
        ax.imshow(picture.numpy(), cmap="gray", vmin=bottom, vmax=top)
        ax.set(xticks=[], yticks=[], title=name)
        ax.grid(False)
    for picture, name, line in zip(
        (before, after), ("before", "after"), ("-", "--"), strict=True
    ):
        values = np.sort(picture.flatten().numpy())
        axes[2].plot(values, np.linspace(0, 1, len(values)), line, label=name)
    axes[2].set(xlabel="intensity", ylabel="share of voxels below")
    axes[2].legend()
    fig.suptitle(title)
    plt.show()


# %%
# Gamma
# -----
#
# Within the range of each channel of each image, intensities are raised to a
# power: below 1 the image becomes brighter, above 1 darker. ``p=1`` and a range
# without width make the operation certain here.

show(image, RandomGamma(gamma=(0.5, 0.5), p=1)(image), "gamma 0.5")

# %%
show(image, RandomGamma(gamma=(1.5, 1.5), p=1)(image), "gamma 1.5")

# %%
show(volume, RandomGamma(gamma=(0.5, 0.5), p=1)(volume), "gamma 0.5, a slice of 3D")

# %%
# Sigmoid contrast
# ----------------
#
# The middle of the range is stretched, and dark and bright ends are compressed.

show(image, RandomSigmoidContrast(gain=(5, 5), p=1)(image), "gain 5")

# %%
show(image, RandomSigmoidContrast(gain=(10, 10), p=1)(image), "gain 10")

# %%
show(
    volume,
    RandomSigmoidContrast(gain=(10, 10), p=1)(volume),
    "gain 10, a slice of 3D",
)

# %%
# Gaussian blur
# -------------
#
# The standard deviation is in voxels, so it changes small images more.

show(image, RandomGaussianBlur(sigma=(1.5, 1.5), p=1)(image), "sigma 1.5 voxels")

# %%
show(
    volume,
    RandomGaussianBlur(sigma=(1.5, 1.5), p=1)(volume),
    "sigma 1.5 voxels, a slice of 3D",
)

# %%
# Affine maps
# -----------
#
# One interpolation rotates, scales and shifts. Angles and scales are in voxels, so a
# rotation stays a rotation if the axes differ in length. Beyond its edges, an image
# continues with its last voxels. ``augment="light"`` is this and gamma.

torch.manual_seed(2)
show(image, RandomAffine(degrees=20, translate=0.15)(image), "an affine map")

# %%
show(volume, RandomAffine()(volume), "an affine map, a slice of 3D")

# %%
# Erased boxes
# ------------
#
# A box at a random place has the mean of its channel. The network cannot rely on a
# single part of the image.

show(image, RandomErasing(p=1)(image), "an erased box")

# %%
# Flips
# -----
#
# Each axis has a separate draw. Leave an axis out where left and right matter:
# ``RandomFlip(axes=[0])`` mirrors along the first spatial axis alone.

show(image, RandomFlip(axes=[0], p=1)(image), "flip of axis 0")

# %%
show(image, RandomFlip(axes=[1], p=1)(image), "flip of axis 1")

# %%
show(volume, RandomFlip(axes=[-1], p=1)(volume), "flip of the last axis, a slice of 3D")

# %%
# Crops
# -----
#
# With ``crop_size`` the classifier trains on windows at random places, and
# predicts from the window in the centre.

torch.manual_seed(1)
show(image, RandomCrop(40)(image), "random crop of 40 x 40")

# %%
show(image, CenterCrop(40)(image), "centre crop of 40 x 40")

# %%
show(volume, RandomCrop(20)(volume), "random crop of 20 x 20 x 20, a slice of 3D")

# %%
# The recipe of the paper
# -----------------------
#
# ``augment="paper"`` is gamma, then blur (volumes) or sigmoid contrast (2D
# images), then flips, each with probability 0.5. Each image of a batch has a
# separate draw: in each batch of seven copies here, no two are alike. A
# flip along the first axis of a volume moves another slice to the plane that
# is shown.

torch.manual_seed(0)
for original, n_axes in ((image, 2), (volume, 3)):
    batch = original.repeat(7, *[1] * (n_axes + 1))
    changed = torch.cat([original, get_augmentation("paper", n_axes)(batch)])
    fig, axes = plt.subplots(1, 8, figsize=(9, 1.4))
    for ax, x in zip(axes, changed, strict=True):
        picture = x[0] if n_axes == 2 else x[0, 20]
        ax.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=220)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    fig.suptitle(f"{n_axes}D: the original, and seven draws")
    plt.show()

# %%
# In a classifier
# ---------------
#
# Training rows are augmented anew in each epoch. Validation and prediction use the
# unchanged images. Flips do not suit digits, so a list names other operations, here
# gamma and a custom noise. ``n_tta=8`` averages the probabilities of eight passes. The
# first pass uses the unchanged image. Each other pass draws one change for all images.


def noise(images):
    """Add noise to a batch. The fit seeds torch's generator."""
    return images + 0.5 * torch.randn_like(images)


data = load_imbalanced_digits()
clf = CNN2DClassifier(
    module="small",
    augment=[RandomGamma(), noise],
    n_tta=8,
    batch_size=64,
    max_epochs=10,
    random_state=0,
)
clf.fit(data.X_train, data.y_train)
once = clf.set_params(n_tta=1).predict_proba(data.X_test)
averaged = clf.set_params(n_tta=8).predict_proba(data.X_test)
print(f"mean change of a probability by averaging: {abs(once - averaged).mean():.3f}")
