"""Gradient with respect to the logits if a network predicts the common class for all rows."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from skimbal.losses import get_loss

y = torch.tensor([0] * 90 + [1] * 10)
majority = np.linspace(-2, 16, 73)
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), sharex=True)
for name in ("ce", "f1", "mcc", "ce+f1", "ce+mcc"):
    loss, norms, biases = get_loss(name), [], []
    for logit in majority:
        logits = torch.zeros(100, 2, dtype=torch.float64)
        logits[:, 0] = logit
        (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), y), logits)
        norms.append(gradient.norm().item())
        biases.append(gradient[:, 0].sum().abs().item())
    axes[0].plot(majority, norms, label=name)
    if name != "mcc":  # which only has rounding errors
        axes[1].plot(majority, biases)
    else:
        assert np.less(biases, 1e-7 * np.array(norms)).all()
        axes[1].plot([], [])
axes[0].set(
    yscale="log",
    xlabel="logit of the common class, for every row",
    ylabel="norm of the gradient",
    title="with respect to all logits",
)
axes[1].set(
    yscale="log",
    xlabel="logit of the common class, for every row",
    title="with respect to the last bias (0 for mcc)",
)
axes[0].legend()
