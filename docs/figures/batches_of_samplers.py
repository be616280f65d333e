"""The classes in the batches of an epoch under each sampler."""

import matplotlib.pyplot as plt
import numpy as np

from skimbal.sampling import BatchSampler

y = np.repeat([0, 1, 2], (120, 24, 8))
BATCH_SIZE, N_SHOWN = 24, 15

fig, axes = plt.subplots(1, 4, figsize=(9.5, 2.6), sharey=True)
for ax, sampler in zip(axes, ("uniform", "stratified", "balanced", "weighted"), strict=True):
    batches = [
        np.bincount(y[rows], minlength=3) for rows in BatchSampler(y, BATCH_SIZE, sampler, 0)
    ]
    below = np.zeros(len(batches))
    for k, (name, hatch) in enumerate((("common", ""), ("rare", "//"), ("rarest", "xx"))):
        counts = np.array(batches)[:, k]
        ax.bar(
            range(1, len(batches) + 1),
            counts,
            0.8,
            below,
            label=name,
            hatch=hatch,
            edgecolor="white",
        )
        below += counts
    ax.set(title=f'"{sampler}"', xlabel="batch of the epoch", xlim=(0.3, N_SHOWN + 0.7))
    ax.set_xticks([1, 5, 10, 15])
    ax.grid(False)
axes[0].set_ylabel("rows")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", title="class")
