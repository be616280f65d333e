"""The estimated memory of a training step under settings that make it smaller."""

import matplotlib.pyplot as plt
import numpy as np

from skimbal import CNN3DClassifier
from skimbal.memory import estimate_memory

SHAPE = (96, 96, 96)
SETTINGS = [
    {},
    {"batch_size": 8},
    {"micro_batch_size": 2},
    {"crop_size": 64},
    {"crop_size": 64, "micro_batch_size": 2},
]

fig, ax = plt.subplots(figsize=(8, 2.6))
estimates = [estimate_memory(CNN3DClassifier(**{"batch_size": 16} | s), SHAPE) for s in SETTINGS]
names = [", ".join(f"{k}={v}" for k, v in s.items()) or "batch_size=16" for s in SETTINGS]
left = np.zeros(len(estimates))
for part, hatch, values in (
    ("activations", "", [e.activations for e in estimates]),
    ("images", "//", [e.images for e in estimates]),
    ("weights and optimizer", "xx", [e.weights + e.gradients + e.optimizer for e in estimates]),
):
    sizes = np.array(values) / 10**6
    ax.barh(names, sizes, 0.7, left, label=part, hatch=hatch, edgecolor="white")
    left += sizes
for name, total in zip(names, left, strict=True):
    ax.text(total + left.max() / 100, name, f"{total:,.0f} MB", va="center", fontsize=9)
ax.invert_yaxis()
ax.set(xlabel="MB in a training step", xlim=(0, 1.15 * left.max()))
fig.legend(loc="outside upper right", ncols=3)
ax.grid(False)
