"""
The losses side by side, on one batch
=====================================

What each loss says about the same batch, and what it asks of a single row of it.

"""

# %%
# One batch of 18 rows of the common class 0 and 2 rows of the rare class 1. Its
# logits are those of a mediocre predictor. ``get_loss`` makes of a name what
# ``loss=`` of the classifiers makes of it, a module for any torch loop.

import matplotlib.pyplot as plt
import numpy as np
import torch

from skimbal.losses import get_loss

y = torch.tensor([0] * 18 + [1] * 2)
generator = torch.Generator().manual_seed(0)
logits = torch.zeros(20, 2)
logits[:, 1] = torch.randn(20, generator=generator) - 1 + 1.5 * y

NAMES = ["ce", "wce", "focal", "f1", "mcc", "ce+mcc"]
STYLES = ["-", "--", "-.", ":", "-", "--"]
losses = {
    name: get_loss(name, class_counts=torch.bincount(y).tolist()) for name in NAMES
}
for name, loss in losses.items():
    print(f"{name:7s} {loss(logits, y).item():.3f}")

# %%
# One logit moves
# ---------------
#
# The logit of class 1 of a single row goes from -8 to 8; all other rows stay as
# they are.


def moved(loss, row, values):
    """Compute loss and derivative by the logit that moves, for each of its values."""
    result = []
    for value in values:
        z = logits.clone()
        z[row, 1] = value
        z.requires_grad_()
        value = loss(z, y)
        (gradient,) = torch.autograd.grad(value, z)
        result.append((value.item(), gradient[row, 1].item()))
    return np.transpose(result)


values = np.linspace(-8, 8, 81)
fig, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True)
for row, (top, bottom), kind in (
    (19, axes[:, 0], "rare"),
    (0, axes[:, 1], "common"),
):
    for (name, loss), style in zip(losses.items(), STYLES, strict=True):
        value, gradient = moved(loss, row, values)
        top.plot(values, value, style, label=name)
        bottom.plot(values, gradient, style)
    top.set_title(f"a row of the {kind} class")
    bottom.set_xlabel("logit of class 1 of this row")
axes[0, 0].set_ylabel("loss of the batch")
axes[1, 0].set_ylabel("derivative by the logit")
axes[0, 0].legend(ncols=2)
plt.show()

# %%
# The left column is a row of class 1, which is right on the right-hand side.
# The more wrong the row is, the larger are the three losses that are means over
# rows: the derivative of ``ce`` tends to -1/20, the share of the row, and that
# of ``wce`` to five times as much, the weight of the rare class here. ``f1``
# and ``mcc`` are bounded: their derivative goes back to zero where the row is
# completely wrong. A row that is far off pulls as little as one that is right,
# be it an outlier or one of the many that a network has given up when it
# settled on one class. ``ce+mcc`` has both: the pull of ``mcc`` in the middle
# and that of ``ce`` at the far end.
#
# The right column is a row of class 0, which is wrong on the right-hand side.
# Here it is ``wce`` that asks for less than ``ce``, and ``mcc`` and ``f1``
# again let go of a row that is far off.
#
# Who pulls
# ---------
#
# At the same logits for all rows, a constant prediction, every row of a class
# has the same derivative. Summed up over a class it is the pull of that class
# on the last bias of the network.

constant = torch.zeros(20, 2, requires_grad=True)
pulls = []
for loss in losses.values():
    (gradient,) = torch.autograd.grad(loss(constant, y), constant)
    pulls.append([gradient[y == k, 1].sum().item() for k in (0, 1)])
pulls = np.array(pulls)

fig, ax = plt.subplots(figsize=(7, 3.2))
at = np.arange(len(NAMES))
ax.bar(at - 0.2, pulls[:, 0], 0.4, label="18 rows of class 0", color="#0072B2")
ax.bar(
    at + 0.2,
    -pulls[:, 1],
    0.4,
    label="2 rows of class 1",
    color="#E69F00",
    hatch="//",
)
ax.set_xticks(at, NAMES)
ax.set(
    ylabel="pull towards its own class",
    title="Constant prediction, both classes at 0.5",
)
ax.legend()
plt.show()

# %%
# Under ``ce`` and ``focal`` the common class pulls nine times as hard, so that
# the bias moves towards it first. Under ``wce`` and ``mcc`` both pull equally.
# For ``wce`` this holds at this prediction; for ``mcc`` it holds at every
# constant prediction, which is a plateau of the loss: :doc:`/losses` shows what
# follows from it.
