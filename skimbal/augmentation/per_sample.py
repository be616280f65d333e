"""Transforms of single images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from skimbal.exceptions import ParameterError
from skimbal.typing import ArrayLike

__all__ = ["PerSample"]


class PerSample(nn.Module):
    """Apply a transform to one image after the other.

    Transforms of TorchIO and MONAI need this. The images are copied to the memory of the CPU, in
    which such transforms compute.

    Parameters
    ----------
    transform : callable
        Maps an image of shape (c, ...) to an image of the same shape, as a tensor or an array.

    Raises
    ------
    ParameterError
        If ``transform`` is not callable.

    Notes
    -----
    A transform that draws from the global generators of torch, numpy or Python is repeatable as it
    is. A transform with a method ``set_random_state(seed)``, as in MONAI, is seeded from torch's
    generator for each batch.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import PerSample
    >>> PerSample(lambda image: image.rot90(2, (1, 2)))(torch.arange(4).reshape(1, 1, 2, 2))
    tensor([[[[3, 2],
              [1, 0]]]])
    """

    def __init__(self, transform: Callable[[Tensor], ArrayLike]) -> None:
        super().__init__()
        if not callable(transform):
            raise ParameterError("transform", "callable with an image", transform)
        self.transform = transform

    def forward(self, images: Tensor) -> Tensor:
        """Transform images of shape (n, c, ...) one by one."""
        if hasattr(self.transform, "set_random_state"):
            self.transform.set_random_state(seed=int(torch.randint(2**31 - 1, ())))
        changed = [torch.as_tensor(self.transform(image)) for image in images.cpu()]
        # MONAI returns tensors of a subclass with metadata. These tensors are plain.
        return torch.stack([image.as_subclass(Tensor) for image in changed]).to(images)

    def extra_repr(self) -> str:
        """Return the transform, unless it is a module, which torch shows."""
        return "" if isinstance(self.transform, nn.Module) else repr(self.transform)
