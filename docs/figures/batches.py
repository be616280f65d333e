"""Losses of a fixed predictor, estimated on batches, against the value on all rows."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from skimbal.losses import LossMix, MixedLoss

SIZES = 2 ** np.arange(1, 9)

rng = np.random.default_rng(0)
y = rng.choice(3, p=[0.80, 0.12, 0.08], size=50_000)
logits = rng.normal(size=(len(y), 3)) + 1.5 * np.eye(3)[y] + np.log([0.80, 0.12, 0.08])
y, logits = torch.from_numpy(y), torch.from_numpy(logits)

# Moving sums change slowly, so small batches must be many.
batches = {n: rng.integers(len(y), size=(max(600, 16_384 // n), n)) for n in SIZES}
fig, axes = plt.subplots(2, 2, figsize=(9.5, 6.4), sharex=True)
for ax, (name, title) in zip(
    axes.flat,
    {"ce": "cross-entropy", "f1": "soft F1 loss", "mcc": "soft MCC loss"}.items(),
    strict=False,
):
    population = MixedLoss(LossMix(**{name: 1}))(logits, y).item()
    for shift, statistics in enumerate(("batch",) if name == "ce" else ("batch", "moving")):
        described = []
        for rows_of_batches in batches.values():
            loss = MixedLoss(LossMix(**{name: 1}, statistics=statistics))
            values = [loss(logits[rows], y[rows]).item() for rows in rows_of_batches]
            # The moving sums begin with the first batch, so the first half is left out.
            values = values[len(values) // 2 :]
            described.append((np.mean(values), *np.quantile(values, (0.1, 0.9))))
        mean, low, high = np.transpose(described)
        ax.errorbar(
            SIZES * 1.08**shift,
            mean,
            (mean - low, high - mean),
            marker="os"[shift],
            capsize=3,
            label=f'statistics="{statistics}"',
        )
    ax.axhline(population, color="black", linestyle=":", label="all rows")
    ax.set_title(title)
    ax.legend()
lacking = [
    np.mean([len(np.unique(y[rows])) < 3 for rows in rows_of_batches])
    for rows_of_batches in batches.values()
]
axes[1, 1].plot(SIZES, lacking, marker="o")
axes[1, 1].set(title="batches that lack a class", ylabel="share", ylim=(0, 1.05))
for ax in axes[1]:
    ax.set_xlabel("rows in a batch")
axes[1, 1].set_xscale("log", base=2)
axes[1, 1].set_xticks(SIZES, SIZES)
