"""
The losses side by side, on one batch
=====================================

The value of each loss on the same batch, and its gradient for a single row.

"""

# %%
# The batch has 18 rows of the common class 0 and 2 rows of the rare class 1. Its
# logits come from a mediocre predictor. ``get_loss`` turns a name into a module,
# as ``loss=`` of the classifiers does. The module works in any torch loop.

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
# The logit of class 1 of a single row goes from -8 to 8. All other rows stay
# unchanged.


def moved(loss, row, values):
    """Compute the loss and its derivative for each value of the moving logit."""
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
# The left column is a row of class 1, which is correct on the right-hand side.
# The three losses that are means over rows grow with the error of the row: the
# derivative of ``ce`` tends to -1/20, the share of the row, and the derivative
# of ``wce`` to five times as much, the weight of the rare class here. ``f1``
# and ``mcc`` are bounded: their derivative returns to zero where the row is
# completely wrong. A completely wrong row has as small a gradient as a correct
# row, whether it is an outlier or belongs to a class that a collapsed network
# never predicts. ``ce+mcc`` combines the gradient of ``mcc`` in the middle with
# the gradient of ``ce`` at the far end.
#
# The right column is a row of class 0, which is wrong on the right-hand side.
# Here ``wce`` has a smaller gradient than ``ce``, and ``mcc`` and ``f1``
# again have almost none for a completely wrong row.
#
# The gradient of each class
# --------------------------
#
# At the same logits for all rows, a constant prediction, every row of a class
# has the same derivative. Its sum over a class is the gradient of that class
# with respect to the last bias of the network.

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
    ylabel="gradient towards the class",
    title="Constant prediction, both classes at 0.5",
)
ax.legend()
plt.show()

# %%
# Under ``ce`` and ``focal`` the gradient of the common class is nine times as
# large, so the bias first moves towards the common class. Under ``wce`` and
# ``mcc`` both classes have equal gradients. For ``wce`` this holds at this
# prediction. For ``mcc`` it holds at every constant prediction, which is a
# plateau of the loss: :doc:`/losses` shows the consequences.
