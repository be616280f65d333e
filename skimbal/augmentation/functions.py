"""Changes of whole batches of images, each image by its parameters, without any randomness.

Each change has two halves. The first half, on the host, settles all that follows from the
parameters alone, such as the rows that are mirrored. The second half changes the images on their
device. So the tensors of many changes can go to the device by one copy.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skimbal.transfer import send_together

__all__ = [
    "Change",
    "adjust_gamma",
    "adjust_sigmoid",
    "affine",
    "crop",
    "erase",
    "flip",
    "gaussian_blur",
    "in_turn",
    "permute_axes",
    "settle_affine",
    "settle_blur",
    "settle_box",
    "settle_crop",
    "settle_flip",
    "settle_gamma",
    "settle_order",
    "settle_sigmoid",
]


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror each image along its own choice of spatial axes.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in any dtype.
    flipped : bool Tensor of shape (n, n_spatial_axes)
        Which axes of which images to mirror.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        The images, in a new tensor.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import flip
    >>> flip(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([[True, False]]))
    tensor([[[[3, 4],
              [1, 2]]]])
    """
    return settle_flip(flipped)(images)


def permute_axes(images: Tensor, order: Tensor) -> Tensor:
    """Permute the spatial axes of each image by its own permutation.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in any dtype.
    order : int64 Tensor of shape (n, n_spatial_axes)
        For each spatial axis of the result, the spatial axis of the image, from 0, which must have
        the same size.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        The images, in a new tensor.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import permute_axes
    >>> permute_axes(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([[1, 0]]))
    tensor([[[[1, 3],
              [2, 4]]]])
    """
    return settle_order(order)(images)


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    r"""Map each image by its own affine map about the centre, with linear interpolation.

    The voxel at :math:`c + x` of the result is the voxel at :math:`c + A x + t` of the image, with
    the centre :math:`c = (size - 1) / 2`, the matrix :math:`A` and the shift :math:`t`. All of them
    are in voxels, so a rotation stays a rotation if the axes differ in length. Beyond its edges, an
    image continues with its voxels at the edge. The result is the same as of
    ``scipy.ndimage.affine_transform(..., order=1, mode="nearest")``.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w) or (n, c, d, h, w)
        Images, in a floating dtype and any unit.
    matrix : Tensor of shape (n, n_spatial_axes, n_spatial_axes + 1)
        Matrix of each image, dimensionless, and its shift in the last column, in voxels. Rows and
        columns are in the order of the axes.

    Returns
    -------
    images : Tensor of shape (n, c, h, w) or (n, c, d, h, w)
        In the unit of the images.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import affine
    >>> quarter_turn = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])
    >>> affine(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), quarter_turn)
    tensor([[[[2., 4.],
              [1., 3.]]]])
    """
    return settle_affine(images, matrix)(images)


def adjust_gamma(images: Tensor, gamma: Tensor) -> Tensor:
    r"""Raise the intensities to a power, within the range of each channel of each image.

    An intensity :math:`x` in a channel of an image whose values go from :math:`a` to :math:`b`
    becomes :math:`a + (b - a) \left(\frac{x - a}{b - a}\right)^\gamma`. A constant channel stays as
    it is.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in a floating dtype and any unit.
    gamma : Tensor of shape (n,)
        Power for each image, dimensionless, positive: below 1 brightens, above 1 darkens.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        In the unit of the images, with the same range.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import adjust_gamma
    >>> adjust_gamma(torch.tensor([[[0.0, 5.0, 10.0]]]), torch.tensor([2.0]))
    tensor([[[ 0.0000,  2.5000, 10.0000]]])
    """
    return settle_gamma(images, gamma)(images)


def adjust_sigmoid(images: Tensor, gain: Tensor, cutoff: float = 0.5) -> Tensor:
    r"""Raise the contrast by a sigmoid, within the range of each channel of each image.

    An intensity :math:`x` in a channel of an image whose values go from :math:`a` to :math:`b`
    becomes :math:`a + (b - a) / (1 + \exp(g (u - \frac{x - a}{b - a})))`, with gain :math:`g` and
    cutoff :math:`u`. A constant channel stays as it is.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in a floating dtype and any unit.
    gain : Tensor of shape (n,)
        Steepness for each image, dimensionless.
    cutoff : float, default=0.5
        Centre of the sigmoid, as a share of the range.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        In the unit of the images. The lowest and the highest value move towards each other.

    References
    ----------
    Braun, G. J. and Fairchild, M. D. (1999). Image lightness rescaling using sigmoidal contrast
    enhancement functions. Journal of Electronic Imaging 8(4), 380-393.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import adjust_sigmoid
    >>> adjust_sigmoid(torch.tensor([[[0.0, 5.0, 10.0]]]), torch.tensor([10.0]))
    tensor([[[0.0669, 5.0000, 9.9331]]])
    """
    return settle_sigmoid(images, gain, cutoff)(images)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur images by Gaussians, each with its width, along all spatial axes.

    The result is the same as of ``scipy.ndimage.gaussian_filter`` with its defaults: the kernel
    ends at four standard deviations, and an image is mirrored at its edges.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in a floating dtype and any unit.
    sigma : Tensor of shape (n,)
        Standard deviation for each image, in voxels, at least 0.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        In the unit of the images.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import gaussian_blur
    >>> gaussian_blur(torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]]), torch.tensor([0.5]))
    tensor([[[2.6387e-04, 1.0645e-01, 7.8657e-01, 1.0645e-01, 2.6387e-04]]])
    """
    return settle_blur(images, sigma)(images)


def crop(images: Tensor, start: Tensor, size: Sequence[int]) -> Tensor:
    """Cut a window out of each image, each at its own place.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in a dtype that torch indexes.
    start : int64 Tensor of shape (n, n_spatial_axes)
        First voxel of the window along each axis.
    size : sequence of int
        Size of the window along each axis, in voxels.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        The windows, of the given size.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import crop
    >>> crop(torch.arange(6).reshape(1, 1, 6), torch.tensor([[3]]), [2])
    tensor([[[3, 4]]])
    """
    return settle_crop(start, size)(images)


def erase(images: Tensor, box: Tensor) -> Tensor:
    """Replace a box in each image by the mean of each channel.

    Parameters
    ----------
    images : Tensor of shape (n, c, ...)
        Images, in a floating dtype and any unit.
    box : Tensor of shape (n, n_spatial_axes, 2)
        First voxel of the box along each axis, and the first voxel after it.

    Returns
    -------
    images : Tensor of shape (n, c, ...)
        In the unit of the images.

    Examples
    --------
    >>> import torch
    >>> from skimbal.augmentation import erase
    >>> erase(torch.tensor([[[0.0, 2.0, 4.0, 6.0]]]), torch.tensor([[[2, 4]]]))
    tensor([[[0., 2., 3., 3.]]])
    """
    return settle_box(box)(images)


class Change(NamedTuple):
    """A change of images that is settled: its draw is made, and may be on its way to the images.

    Parameters
    ----------
    tensors : sequence of Tensor
        What the change needs beside the images, in the memory of the host.
    apply : callable
        ``apply(images, tensors)`` changes images of shape (n, c, ...), with the tensors on their
        device. It draws nothing and waits for nothing.
    size : tuple of int, default=None
        Spatial shape of the changed images, if it differs from the shape of the images.
    """

    tensors: Sequence[Tensor]
    apply: Callable[[Tensor, Sequence[Tensor]], Tensor]
    size: tuple[int, ...] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Change images, with one copy of the tensors to their device."""
        return self.apply(images, send_together(self.tensors, images.device))


def in_turn(*changes: Change) -> Change:
    """Return one change that makes several changes of the same images, one after the other."""

    def apply(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        start = 0
        for change in changes:
            end = start + len(change.tensors)
            images = change.apply(images, tensors[start:end])
            start = end
        return images

    return Change([tensor for change in changes for tensor in change.tensors], apply)


def settle_flip(flipped: Tensor) -> Change:
    """Find the rows that are mirrored along each axis."""
    rows = [chosen.nonzero()[:, 0] for chosen in flipped.cpu().unbind(1)]
    axes = [axis for axis, chosen in enumerate(rows, start=2) if len(chosen)]

    def apply(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        images = images.clone()
        for axis, chosen in zip(axes, tensors, strict=True):
            images[chosen] = images[chosen].flip(axis)
        return images

    return Change([rows[axis - 2] for axis in axes], apply)


def settle_order(order: Tensor) -> Change:
    """Find the rows of each permutation of the axes."""
    orders, which = torch.unique(order.cpu(), dim=0, return_inverse=True)
    rows = {
        tuple(axes): (which == number).nonzero()[:, 0]
        for number, axes in enumerate(orders.tolist())
        if axes != sorted(axes)
    }

    def apply(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        images = images.clone()
        for axes, chosen in zip(rows, tensors, strict=True):
            images[chosen] = images[chosen].permute(0, 1, *(2 + axis for axis in axes))
        return images

    return Change(list(rows.values()), apply)


def settle_affine(like: Tensor, matrix: Tensor) -> Change:
    """Turn matrices in voxels into matrices of torch, for images like these."""
    shape = like.shape[2:]
    if len(shape) not in (2, 3):
        raise ValueError(
            "images must have the shape (n, c, h, w) or (n, c, d, h, w) for an affine map; got "
            f"{tuple(like.shape)}. Add axes of one voxel."
        )
    # Places along an axis differ by less than the precision of smaller dtypes.
    dtype = torch.promote_types(like.dtype, torch.float32)
    # For torch, an axis of any size goes from -1 to 1, and the last axis comes first.
    size = torch.tensor([*shape, 2], dtype=dtype)
    theta = (matrix.to("cpu", dtype) * size / size[:-1, None]).flip(1)
    return Change([theta], _map_affinely)


def _map_affinely(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    (theta,) = tensors
    shape, dtype, device = images.shape[2:], theta.dtype, images.device
    grid, *columns = theta.unbind(2)[::-1]  # each of shape (n, n_axes)
    grid = grid[..., None]
    # The sum of the parts of all axes. torch's affine_grid multiplies matrices, which takes longer
    # than the interpolation.
    for length, column in zip(shape[::-1], columns, strict=True):
        place = torch.linspace(1 / length - 1, 1 - 1 / length, length, dtype=dtype, device=device)
        part = column[..., None] * place
        grid = (part[..., None] + grid[:, :, None]).flatten(2)
    grid = grid.reshape(len(grid), len(shape), *shape).movedim(1, -1)
    mapped = torch.nn.functional.grid_sample(
        images.to(dtype), grid, padding_mode="border", align_corners=False
    )
    return mapped.to(images.dtype)


def settle_gamma(like: Tensor, gamma: Tensor) -> Change:
    """Round the powers to the dtype of the images."""

    def apply(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        low, extent = _range(images)
        # Rounding may leave a value a little below the lowest one, and its powers are not numbers.
        unit = ((images - low) / _not_zero(extent)).clamp_(0, 1)
        return unit.pow_(_per_image(tensors[0], images)).mul_(extent).add_(low)

    return Change([gamma.to(like.dtype)], apply)


def settle_sigmoid(like: Tensor, gain: Tensor, cutoff: float) -> Change:
    """Round the gains to the dtype of the images."""

    def apply(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        low, extent = _range(images)
        steepness = _per_image(tensors[0], images)
        unit = ((images - low) / _not_zero(extent)).sub_(cutoff).mul_(steepness).sigmoid_()
        return unit.mul_(extent).add_(low)

    return Change([gain.to(like.dtype)], apply)


def settle_blur(like: Tensor, sigma: Tensor) -> Change:
    """Compute the kernels."""
    return Change([_gaussian_kernels(sigma).to(like.dtype)], _blur)


def _blur(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    (kernels,) = tensors
    radius = kernels.shape[1] // 2
    weights = kernels.reshape(*kernels.shape, *[1] * (images.ndim - 1)).unbind(1)
    for axis, size in enumerate(images.shape[2:], start=2):
        place = torch.arange(-radius, size + radius, device=images.device) % (2 * size)
        # The padding modes of torch do not repeat the voxel at the edge.
        padded = images.index_select(axis, torch.minimum(place, 2 * size - 1 - place))
        # A sum of shifted images: convolution by as many kernels as there are images is slower.
        images = padded.narrow(axis, 0, size) * weights[0]
        for tap, weight in enumerate(weights[1:], start=1):
            images.addcmul_(padded.narrow(axis, tap, size), weight)
    return images


def settle_crop(start: Tensor, size: Sequence[int]) -> Change:
    """Keep the size of the windows, by which later draws go."""

    def apply(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        windows = images
        for axis, length in enumerate(size, start=2):
            windows = windows.unfold(axis, length, 1)  # a view: (n, c, *places, *size)
        rows = torch.arange(len(images), device=images.device)
        places: list[Any] = list(tensors[0].unbind(1))
        return windows[(rows, slice(None), *places)]

    return Change([start], apply, tuple(size))


def settle_box(box: Tensor) -> Change:
    """Round the ends of the boxes to voxels."""
    return Change([box.long()], _erase)


def _erase(images: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    inside = torch.ones((), dtype=torch.bool, device=images.device)
    for axis, ends in enumerate(tensors[0].unbind(1), start=2):
        place = torch.arange(images.shape[axis], device=images.device)
        along = (place >= ends[:, :1]) & (place < ends[:, 1:])  # (n, size)
        shape = [len(images) if i == 0 else -1 if i == axis else 1 for i in range(images.ndim)]
        inside = inside & along.reshape(shape)
    return torch.where(inside, images.mean(tuple(range(2, images.ndim)), keepdim=True), images)


def _range(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest value and the range of each channel of each image."""
    axes = tuple(range(2, images.ndim))
    low = images.amin(axes, keepdim=True)
    return low, images.amax(axes, keepdim=True).sub_(low)


def _not_zero(extent: Tensor) -> Tensor:
    return torch.where(extent > 0, extent, 1)


def _per_image(parameter: Tensor, images: Tensor) -> Tensor:
    return parameter.reshape(-1, *[1] * (images.ndim - 1))


def _gaussian_kernels(sigma: Tensor) -> Tensor:
    """Return a kernel for each image, all with the taps of the widest, in float64."""
    sigma = sigma.cpu().double()[:, None]
    radius = (4 * sigma + 0.5).floor()
    tap = torch.arange(-int(radius.max()), int(radius.max()) + 1)
    # A width of zero has only the tap in the middle, so any divisor does.
    kernels = (-0.5 * (tap / torch.where(sigma > 0, sigma, 1)) ** 2).exp() * (tap.abs() <= radius)
    return kernels / kernels.sum(1, keepdim=True)
