"""Images of ten patients, and the rows that two ways of splitting hold back."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

n_images = np.array([4, 6, 3, 5, 4, 6, 3, 4, 6, 4])
patients = np.repeat(np.arange(len(n_images)), n_images)
is_rare = np.isin(np.arange(len(n_images)), (1, 4, 7))
y = np.repeat(is_rare, n_images)
folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(y, y, patients)
held_back = {
    "without groups": next(StratifiedKFold(5, shuffle=True, random_state=0).split(y, y))[1],
    # The first fold that has both classes.
    "with groups": next(rows for _, rows in folds if len(set(y[rows])) == 2),
}

fig, axes = plt.subplots(2, 1, figsize=(9.5, 2.4))
edges = np.append(0, n_images.cumsum())
for ax, (name, rows) in zip(axes, held_back.items(), strict=True):
    held = np.isin(np.arange(len(y)), rows)
    both = np.sum([len(set(held[patients == p])) == 2 for p in range(len(n_images))])
    ax.pcolormesh(
        np.arange(len(y) + 1),
        [0, 1],
        held[np.newaxis],
        cmap=ListedColormap(["#D9D9D9", "#0072B2"]),
        edgecolors="white",
        linewidth=1,
    )
    ax.vlines(edges, -0.15, 1.15, color="black", linewidth=1.2, linestyle="-")
    ax.set(ylim=(-0.15, 1.15), yticks=[], xticks=[])
    ax.set_title(f"{name}: {both} of {len(n_images)} patients on both sides", loc="left")
    ax.spines[:].set_visible(False)
    ax.grid(False)
names = [f"p{p + 1:02}{' rare' * bool(rare)}" for p, rare in enumerate(is_rare)]
axes[1].set_xticks((edges[:-1] + edges[1:]) / 2, names)
axes[1].tick_params(length=0)
