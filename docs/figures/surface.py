"""Surface of the losses of a logistic regression on one feature, with classes of 9 to 1."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import norm

from skimbal.losses import get_loss

# Quantiles replace random numbers: class 0 around 0, class 1 around 2.
shares = {0: (np.arange(180) + 0.5) / 180, 1: (np.arange(20) + 0.5) / 20}
x = torch.from_numpy(np.concatenate([norm.ppf(shares[0]), 2 + norm.ppf(shares[1])]))
y = torch.tensor([0] * 180 + [1] * 20)

slopes, biases = np.linspace(-2, 6, 41), np.linspace(-14, 8, 45)
fig, axes = plt.subplots(2, 3, figsize=(9.5, 6), sharex=True, sharey=True)
for column, (name, title) in enumerate(
    {"ce": "cross-entropy", "f1": "soft F1 loss", "mcc": "soft MCC loss"}.items()
):
    loss = get_loss(name)
    surface, gradient = np.empty((2, len(slopes), len(biases)))
    for i, slope in enumerate(slopes):
        for j, bias in enumerate(biases):
            theta = torch.tensor([slope, bias], dtype=torch.float64, requires_grad=True)
            z = theta[0] * x + theta[1]
            value = loss(torch.stack((torch.zeros_like(z), z), 1), y)
            surface[i, j] = value.item()
            gradient[i, j] = torch.autograd.grad(value, theta)[0].norm().item()
    top, bottom = axes[:, column]
    shown = np.log10(surface) if name == "ce" else surface
    levels = np.linspace(-1.0, 1.0, 21) if name == "ce" else np.linspace(0.2, 1.4, 25)
    drawn = top.contourf(biases, slopes, shown, levels, extend="both")
    i, j = np.unravel_index(surface.argmin(), surface.shape)
    top.plot(biases[j], slopes[i], "*", color="white", markeredgecolor="black", markersize=13)
    top.set_title(title)
    fig.colorbar(drawn, ax=top, label="log10 of the loss" if name == "ce" else "loss")
    drawn = bottom.contourf(
        biases, slopes, np.log10(gradient.clip(1e-12)), np.arange(-6, 1.5, 0.5), extend="both"
    )
    fig.colorbar(drawn, ax=bottom, label="log10 of the gradient's norm")
    bottom.set_xlabel("bias")
for ax in axes[:, 0]:
    ax.set_ylabel("slope")
for ax in axes.flat:
    ax.axhline(0, color="white", linestyle="--", linewidth=1)
    ax.grid(False)
