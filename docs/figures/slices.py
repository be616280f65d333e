"""Weights of the slices of volumes, of which some hold a small bright ball."""

import matplotlib.pyplot as plt
import numpy as np

from skimbal import CNN3DClassifier, SliceNet

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 12, 16, 16)).astype(np.float32)
y = np.array([0, 0, 0, 1] * 20)
centres = rng.integers(2, 10, size=80)
d, h, w = np.ogrid[:12, :16, :16]
for i in np.flatnonzero(y):
    X[i] += 2.5 * ((d - centres[i]) ** 2 + (h - 8) ** 2 + (w - 6) ** 2 < 9)
train, test = slice(0, 64), slice(64, 80)

fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), sharey=True)
for ax, pooling in zip(axes, ("attention", "max"), strict=True):
    clf = CNN3DClassifier("ce", module=SliceNet(pooling=pooling), random_state=0)
    clf.set_params(sampler="balanced", max_epochs=10, batch_size=16)
    weights = clf.fit(X[train], y[train]).slice_weights(X[test])
    for row, centre, label in zip(weights, centres[test], y[test], strict=True):
        is_rare = label == 1
        x = np.arange(12) - (centre if is_rare else 6)
        ax.plot(x, row, color="#D55E00" if is_rare else "#777777", linestyle="-", alpha=0.7)
    ax.set(title=f'pooling="{pooling}"', xlabel="slice, from the centre of the ball or volume")
axes[0].set_ylabel("weight of the slice")
axes[0].plot([], [], color="#D55E00", linestyle="-", label="with a ball")
axes[0].plot([], [], color="#777777", linestyle="-", label="without")
axes[0].legend()
