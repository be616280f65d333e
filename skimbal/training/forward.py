"""From images to logits."""

from torch import Tensor

__all__ = ["softmax"]


def softmax(logits: Tensor) -> Tensor:
    """Turn logits into probabilities, of shape (n_samples, n_classes)."""
    return logits.softmax(-1)
