"""
A custom loss
=============

Any module that maps (logits, target) to a scalar is a loss. Three more lines add
sample weights, a parameter to search over, and micro-batches in one pass.

"""

# %%
# Generalised cross-entropy, :math:`(1 - p_t^q) / q`, lies between cross-entropy
# (:math:`q \to 0`) and the mean absolute error (:math:`q = 1`), and is more
# robust to wrong labels (Zhang and Sabuncu, 2018).
#
# - The constructor stores its argument and does nothing else, as in any
#   scikit-learn estimator. With :class:`~sklearn.base.BaseEstimator` as second
#   base, ``loss__q`` becomes a parameter of the classifier. (``torch.nn.Module``
#   must come first, for its ``__setattr__`` and its pickling.)
# - ``sample_weight`` is a tensor of shape (n_samples,) with mean 1 over the
#   training rows. Divide by the number of rows, not by the sum of the weights:
#   a batch of light rows must count for less. A loss without this argument is
#   refused when there are weights.
# - ``mean_over_rows = True`` declares that the loss of a batch is the mean of the
#   losses of its rows, so that micro-batches and several processes may add up
#   their parts.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV

from skimbal import CNN2DClassifier
from skimbal.datasets import load_imbalanced_digits
from skimbal.losses import soft_confusion


class GeneralizedCrossEntropy(torch.nn.Module, BaseEstimator):
    """Generalised cross-entropy, the mean over the rows of (1 - p_t^q) / q."""

    mean_over_rows = True

    def __init__(self, q=0.7):
        super().__init__()
        self.q = q

    def forward(self, logits, target, sample_weight=None):
        log_p = logits.log_softmax(1).gather(1, target[:, None])[:, 0]  # (n,)
        row_loss = -torch.expm1(self.q * log_p) / self.q
        return (row_loss if sample_weight is None else row_loss * sample_weight).mean()


# %%
# Against its formula
# -------------------
#
# Test a loss before it trains anything: its values, its limits, and
# its gradient against finite differences.

logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]], dtype=torch.float64)
target = torch.tensor([0, 2])
p_target = logits.softmax(1)[[0, 1], target]
loss = GeneralizedCrossEntropy(q=0.7)
torch.testing.assert_close(loss(logits, target), ((1 - p_target**0.7) / 0.7).mean())
torch.testing.assert_close(
    GeneralizedCrossEntropy(q=1e-9)(logits, target),
    torch.nn.functional.cross_entropy(logits, target),
)
torch.testing.assert_close(
    GeneralizedCrossEntropy(q=1)(logits, target), (1 - p_target).mean()
)
print(torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_()))

# %%
# With saturated logits its value and gradient stay finite:

saturated = torch.tensor([[1e4, -1e4], [1e4, -1e4]], requires_grad=True)
value = loss(saturated, torch.tensor([0, 1]))
value.backward()
print(value.item(), saturated.grad.abs().max().item())

# %%
# A search over its parameter
# ---------------------------

data = load_imbalanced_digits()
search = GridSearchCV(
    CNN2DClassifier(
        loss=GeneralizedCrossEntropy(),
        module="small",
        augment=None,
        batch_size=64,
        max_epochs=4,
        lr=3e-3,
        random_state=0,
    ),
    {"loss__q": [0.1, 0.4, 0.7, 1]},
    scoring="balanced_accuracy",
    cv=3,
)
search.fit(data.X_train, data.y_train)

fig, ax = plt.subplots(figsize=(5, 3.2))
ax.errorbar(
    search.cv_results_["param_loss__q"].astype(float),
    search.cv_results_["mean_test_score"],
    search.cv_results_["std_test_score"],
    marker="o",
    capsize=3,
)
ax.set(xlabel="loss__q", ylabel="balanced accuracy over three folds")
plt.show()

y_pred = search.predict(data.X_test)
print(
    search.best_params_,
    f"{balanced_accuracy_score(data.y_test, y_pred):.2f} on the test part",
)

# %%
# Weights and micro-batches
# -------------------------
#
# A weight of 2 equals a repeated row, and parts of 8 rows give the gradient of
# the whole batch.

X, y = data.X_train[::4].astype("float64"), data.y_train[::4]
weight = np.where(y == 0, 1, 2)
params = {"loss": GeneralizedCrossEntropy(), "max_epochs": 2, "random_state": 0}
params |= {"module": "small", "sampler": "uniform", "augment": None}
one = CNN2DClassifier(**params, batch_size=1000).fit(X, y, sample_weight=weight)
two = CNN2DClassifier(**params, batch_size=1000).fit(
    X.repeat(weight, 0), y.repeat(weight)
)
three = CNN2DClassifier(**params, batch_size=1000, micro_batch_size=8).fit(
    X, y, sample_weight=weight
)
for other in (two, three):
    print(f"{np.abs(one.predict_proba(X) - other.predict_proba(X)).max():.0e}")

# %%
# A loss that is a function of the batch
# --------------------------------------
#
# One minus the soft macro recall, the mean over the classes of the true
# positive share. The classes are counted in the batch, so this is not a mean over
# rows with the same factor in every batch, and ``mean_over_rows`` is not set.
# :func:`~skimbal.losses.soft_confusion` computes the sums, weights included.


class SoftRecallLoss(torch.nn.Module):
    """One minus the mean of the soft recalls of the classes in the batch."""

    def forward(self, logits, target, sample_weight=None):
        tp, _, true = soft_confusion(logits, target, sample_weight)
        present = true > 0
        recall = tp / true.where(present, torch.ones_like(true))  # (n_classes,)
        return 1 - recall.sum() / present.sum().clamp_min(1)


recall_loss = SoftRecallLoss()
hard = 50 * torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2, 0]), 3).double()
y_true = torch.tensor([0, 0, 0, 1, 1])
print(f"{recall_loss(hard, y_true).item():.3f}", 1 - (2 / 3 + 0) / 2)
clf = CNN2DClassifier(
    loss=SoftRecallLoss(),
    module="small",
    augment=None,
    sampler="uniform",
    batch_size=64,
    micro_batch_size=16,
    max_epochs=6,
    random_state=0,
)
y_pred = clf.fit(data.X_train, data.y_train).predict(data.X_test)
score = balanced_accuracy_score(data.y_test, y_pred)
print(f"balanced accuracy {score:.2f} on the test part")

# %%
# References
# ----------
#
# Zhang, Z. and Sabuncu, M. (2018). Generalized cross entropy loss for training
# deep neural networks with noisy labels. NeurIPS.
#
# :doc:`/extending` has more: losses that are not a mean over rows, and a new
# metric loss with a name.
