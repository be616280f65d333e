"""A chest X-ray, and two draws of each recipe of augmentation."""

import matplotlib.pyplot as plt
import torch

from skimbal.augmentation import get_augmentation
from skimbal.datasets import load_medmnist_sample

N_DRAWS = 2
RECIPES = ("light", "strong", "trivial", "flip", "symmetries", "paper")
images = load_medmnist_sample("pneumoniamnist").X_train
image = torch.from_numpy(images[0]).float()

torch.manual_seed(5)
fig, axes = plt.subplots(N_DRAWS, 1 + len(RECIPES), figsize=(9.5, 3))
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
axes[0, 0].imshow(image, cmap="gray", vmin=image.min(), vmax=image.max())
axes[0, 0].set_title("unchanged")
axes[1, 0].set_visible(False)
for column, name in zip(axes.T[1:], RECIPES, strict=True):
    drawn = get_augmentation(name, 2)(image.repeat(N_DRAWS, 1, 1, 1))
    for ax, picture in zip(column, drawn[:, 0], strict=True):
        ax.imshow(picture, cmap="gray", vmin=image.min(), vmax=image.max())
    column[0].set_title(f'"{name}"')
