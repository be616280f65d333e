"""Images of both classes of the samples that come with the package."""

import matplotlib.pyplot as plt
import numpy as np

from skimbal.datasets import load_medmnist_sample

N_IMAGES = 6


def depths(volumes):
    """Return how deep the first voxel of a vessel lies along the first axis, 0 for none."""
    filled = volumes > 0
    near = volumes.shape[1] - filled.argmax(1)
    return np.where(filled.any(1), near, 0)


fig, axes = plt.subplots(2, 2 * N_IMAGES, figsize=(9.5, 2.1))
for columns, name in (
    (slice(None, N_IMAGES), "pneumoniamnist"),
    (slice(N_IMAGES, None), "vesselmnist3d"),
):
    data = load_medmnist_sample(name)
    for row, label in zip(axes[:, columns], data.classes, strict=True):
        images = data.X_train[data.y_train == label][:N_IMAGES]
        for ax, image in zip(row, images if data.ndim == 2 else depths(images), strict=True):
            ax.imshow(image, cmap="gray")
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
        row[0].set_title(data.target_names[label], loc="left", fontsize=9)
plt.show()
