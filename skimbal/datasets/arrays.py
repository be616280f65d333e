"""Arrays of images, labels and groups, checked and brought to one form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from skimbal.datasets.labels import Missing
from skimbal.exceptions import ParameterError
from skimbal.typing import is_integer
from skimbal.wording import plural

__all__ = ["ArrayAxes", "Part", "check_groups", "check_labels", "join_groups", "join_labels"]

#: Lengths of an axis that count the channels of grey or RGB images.
_GREY_OR_RGB = (1, 3)
#: Lengths of an axis that may count channels or the slices of a volume.
_DOUBTFUL = (2, 4, 5)


class Part(NamedTuple):
    """Images, channels first, labels and groups of a part, and the number of spatial axes."""

    X: npt.NDArray[Any]
    y: npt.NDArray[Any]
    groups: npt.NDArray[Any] | None
    n_spatial: int


@dataclass(frozen=True)
class ArrayAxes:
    """The meaning of the axes of images, as the user states it."""

    channel_axis: int | None = None
    n_spatial: int | None = None

    def __post_init__(self) -> None:
        """Refuse axes that no image has."""
        if self.channel_axis is not None and not (
            is_integer(self.channel_axis) and -4 <= self.channel_axis <= 3
        ):
            raise ParameterError("channel_axis", "None or an axis of an image", self.channel_axis)
        if self.n_spatial not in (None, 2, 3):
            raise ParameterError("n_spatial", "None, 2 or 3", self.n_spatial)

    def channels_first(self, images: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
        """Return images with channels first, and their number of spatial axes."""
        if images.dtype.kind not in "buif" or images.ndim not in (3, 4, 5):
            raise ValueError(
                "images must be numbers of shape (n, h, w), (n, h, w, 3) or (n, d, h, w); got "
                f"{images.dtype} of shape {images.shape}."
            )
        if images.size == 0:
            raise ValueError(f"every split must have at least one image; got shape {images.shape}.")
        axis = self._axis_of_channels(images.shape[1:])
        n_spatial = images.ndim - (1 if axis is None else 2)
        if n_spatial not in (2, 3) or self.n_spatial not in (None, n_spatial):
            raise ParameterError(
                "channel_axis" if self.n_spatial is None else "n_spatial",
                f"possible for images of shape {images.shape[1:]}",
                self.channel_axis if self.n_spatial is None else self.n_spatial,
                _ADVICE,
            )
        if axis not in (None, 0):
            images = np.ascontiguousarray(np.moveaxis(images, axis + 1, 1))
        return images, n_spatial

    def _axis_of_channels(self, shape: tuple[int, ...]) -> int | None:
        """Return the axis of an image that counts channels, or None if there is none."""
        n = len(shape)
        if self.channel_axis is not None:
            if n == 2 or not -n <= self.channel_axis < n:
                raise ParameterError(
                    "channel_axis", f"an axis of images of shape {shape}", self.channel_axis
                )
            return self.channel_axis % n
        if n == 2 or (n == 3 and self.n_spatial == 3):
            return None
        # MedMNIST's form has channels last, so here they win over channels at the second place.
        for axis in (n - 1, 0) if n == 3 else ():
            if shape[axis] in _GREY_OR_RGB:
                return axis
        doubtful = [
            axis
            for axis in (n - 1, 0)
            if shape[axis] in _DOUBTFUL and min(shape[:axis] + shape[axis + 1 :]) >= 2 * shape[axis]
        ]
        if n == 4 or self.n_spatial == 2 or doubtful:
            raise ValueError(
                f"images of shape {shape} must have an axis of channels that is stated; got "
                f"{'lengths that may be channels or slices' if doubtful else 'none'}. {_ADVICE}"
            )
        return None


_ADVICE = (
    "Pass channel_axis=-1 if channels come last, channel_axis=0 if they come first, or "
    "n_spatial=3 for volumes without channels."
)


def check_labels(labels: npt.NDArray[Any], n_images: int, missing: Missing) -> npt.NDArray[Any]:
    """Return whole numbers or text of shape (n,), and refuse labels that are missing."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            "labels must be one class number for each image, shape (n,) or (n, 1); got shape "
            f"{labels.shape}. Multi-label targets are not supported. For one column for each "
            "class, write labels.argmax(axis=1)."
        )
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "buifUS":
        raise ValueError(
            "labels must be class numbers or text, of shape (n,) or (n, 1); got "
            f"{labels.dtype} of shape {labels.shape}."
        )
    if labels.size != n_images:
        raise ValueError(
            f"there must be a label for each of {plural(n_images, 'image')}; got {labels.size}."
        )
    y = _as_text(labels.reshape(-1), "labels")
    _refuse_missing(y, "labels", missing)
    if y.dtype.kind == "f":
        # Beyond 2^53, floats cannot tell whole numbers apart.
        bad = np.flatnonzero((y != np.floor(y)) | (np.abs(y) > 2**53))
        if len(bad):
            raise ValueError(
                f"labels must be class numbers or text; got {labels.dtype} with {y[bad[0]]} for "
                f"image {bad[0]}."
            )
        y = y.astype(np.int64)
    return y


def check_groups(groups: npt.NDArray[Any], n_images: int, missing: Missing) -> npt.NDArray[Any]:
    """Return numbers or text of shape (n,), and refuse groups that are missing."""
    if groups.size != n_images or groups.shape not in ((n_images,), (n_images, 1)):
        raise ValueError(
            f"groups must have one entry for each of {plural(n_images, 'image')}, shape "
            f"({n_images},); got shape {groups.shape}."
        )
    if groups.dtype.kind not in "buifUS":
        raise ValueError(f"groups must be numbers or text, with none missing; got {groups.dtype}.")
    groups = _as_text(groups.reshape(-1), "groups")
    _refuse_missing(groups, "groups", missing)
    return groups


def join_labels(labels: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the labels of all parts in one dtype."""
    if len({y.dtype.kind == "U" for y in labels.values()}) > 1:
        raise ValueError("labels must be numbers or text in all splits; got both.")
    if all(y.dtype.kind == "U" for y in labels.values()):
        return dict(labels)
    least = min(int(y.min()) for y in labels.values())
    most = max(int(y.max()) for y in labels.values())
    if least < 0 and most > np.iinfo(np.int64).max:
        raise ValueError(
            f"labels must fit into int64 or uint64; got numbers from {least} to {most}."
        )
    dtype = np.int64 if most <= np.iinfo(np.int64).max else np.uint64
    return {split: y.astype(dtype) for split, y in labels.items()}


def join_groups(groups: Sequence[npt.NDArray[Any]]) -> None:
    """Refuse groups that are text in one part and numbers in another."""
    if len({array.dtype.kind == "U" for array in groups}) > 1:
        raise ValueError("groups must be numbers or text in all splits; got both.")


def _as_text(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return text for bytes, and other arrays as they are."""
    if array.dtype.kind != "S":
        return array
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} must be numbers or text; got bytes, not in UTF-8.") from error


def _refuse_missing(array: npt.NDArray[Any], name: str, missing: Missing) -> None:
    if array.dtype.kind == "U":
        texts = np.unique(array)
        lost = np.flatnonzero(np.isin(array, [text for text in texts.tolist() if text in missing]))
    else:
        lost = np.flatnonzero(array != array)
    if len(lost):
        remedy = "Leave out these images, or label them."
        if array.dtype.kind == "U":
            remedy += " If the text is a name here, pass missing_values=[]."
        raise ValueError(
            f"{name} must be numbers or text, with none missing; got {array[lost[0]].item()!r} "
            f"for {plural(len(lost), 'image')}, the first of them number {lost[0]}. {remedy}"
        )
