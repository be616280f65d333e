"""The form of the images of a fit: how files are read, shape, scale and numbers of the pixels."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from skimbal.exceptions import ParameterError
from skimbal.images.files import ImageFiles, check_options
from skimbal.images.pixels import PixelStatistics
from skimbal.typing import PathLike, is_number

__all__ = ["FileForm", "InputForm"]

#: Parameters of files that are functions.
_FUNCTIONS = ("reader", "transform")
#: Types of single values of a form, with the types in words.
_KINDS: dict[str, tuple[Any, str]] = {
    "dtype": (str, "text"),
    "are_images": (bool, "True or False"),
    "scale": (str | None, "text or None"),
}


@dataclass(frozen=True)
class FileForm:
    """Parameters of image files, without paths and functions, so that it can be saved.

    Parameters
    ----------
    options : dict
        Parameters of :class:`ImageFiles` that change the pixels, with values that JSON has.
    functions : tuple of str, default=()
        Names of the parameters that were functions: ``"reader"``, ``"transform"``.
    spacings : tuple of tuple of float, default=()
        The least and the greatest distance of the voxels of the files along each spatial axis, in
        mm. Empty if not all files state it.

    Examples
    --------
    >>> from skimbal.images import FileForm
    >>> FileForm({"size": 28, "resize": "crop"}, ("transform",)).functions
    ('transform',)
    """

    options: dict[str, Any]
    functions: tuple[str, ...] = ()
    spacings: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, images: ImageFiles) -> "FileForm":
        """Return the form of files.

        Parameters
        ----------
        images : ImageFiles
            The files.

        Returns
        -------
        form : FileForm
            The parameters that they are read with.
        """
        known = list(images.spacings.values())
        spacings: tuple[tuple[float, ...], ...] = ()
        if len(known) == len(set(images.paths)) and len(set(map(len, known))) == 1:
            along = list(zip(*known, strict=True))
            spacings = tuple(map(min, along)), tuple(map(max, along))
        return cls(*_parted(images.options), spacings)

    @classmethod
    def of_options(cls, images: ImageFiles) -> "FileForm":
        """Return the form of files without the distances of their voxels.

        Parameters
        ----------
        images : ImageFiles
            The files.

        Returns
        -------
        form : FileForm
            The parameters that they are read with.
        """
        return cls(*_parted(images.options))

    def read(self, paths: Collection[PathLike] | np.ndarray) -> ImageFiles:
        """Return other files in this form.

        Parameters
        ----------
        paths : sequence of str or path-like of shape (n_images,)
            The files.

        Returns
        -------
        images : ImageFiles
            The files, with the parameters of this form.

        Raises
        ------
        ValueError
            If the form had functions, which it does not keep, or a file cannot be used.
        """
        if self.functions:
            names = " and ".join(f"{name}=" for name in self.functions)
            raise ValueError(
                f"X must be ImageFiles with the {names} of the fit; got bare paths. A classifier "
                "does not keep functions."
            )
        return ImageFiles(paths, **self.options)

    def to_dict(self) -> dict[str, Any]:
        """Return the form as values that JSON has.

        Returns
        -------
        values : dict
            By the names of the parameters of this class.
        """
        return {
            "options": dict(self.options),
            "functions": list(self.functions),
            "spacings": [list(distances) for distances in self.spacings],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FileForm":
        """Return the form that :meth:`to_dict` described.

        Parameters
        ----------
        values : dict
            As :meth:`to_dict` returns it, also after JSON.

        Returns
        -------
        form : FileForm
            Equal to the described form.

        Raises
        ------
        ParameterError
            If a name or an option is missing or unknown, or a value is of another kind.
        """
        _check_names(cls, values)
        options, functions = dict(values["options"]), tuple(values["functions"])
        spacings = tuple(tuple(distances) for distances in values["spacings"])
        check_options(options)
        if not set(functions) <= set(_FUNCTIONS):
            raise ParameterError("functions", f"some of {', '.join(_FUNCTIONS)}", functions)
        if not all(is_number(distance) for distances in spacings for distance in distances):
            raise ParameterError("spacings", "tuples of numbers", spacings)
        return cls(options, functions, spacings)


@dataclass(frozen=True)
class InputForm:
    """The images that a classifier was fitted to, as its attribute ``input_`` describes them.

    Predictions read bare paths by it, and compare new images with it. It holds neither paths nor
    pixels nor functions, and :meth:`to_dict` returns it as JSON can hold it.

    Parameters
    ----------
    shape : tuple of int
        Shape of an image, (n_channels, [d,] h, w), in pixels or voxels.
    axes : tuple of str
        Names of its spatial axes: ``("h", "w")`` or ``("d", "h", "w")``.
    dtype : str
        Dtype of the images, such as ``"uint8"``.
    are_images : bool
        Whether the axes of the images are known, unlike in bare rows of pixels.
    scale : str, default=None
        The scale of the numbers, in words, as :attr:`ImageFiles.scale`. None after a fit to arrays.
    files : FileForm, default=None
        How the files were read. None after a fit to arrays.
    pixels : PixelStatistics, default=None
        The numbers of the training images. None if they are not known.

    Examples
    --------
    >>> import json
    >>> import numpy as np
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.images import InputForm
    >>> X = np.random.default_rng(0).integers(0, 256, size=(12, 8, 8), dtype=np.uint8)
    >>> clf = CNN2DClassifier(module="small", max_epochs=0).fit(X, [0, 1] * 6)
    >>> clf.input_.shape, clf.input_.dtype
    ((1, 8, 8), 'uint8')
    >>> InputForm.from_dict(json.loads(json.dumps(clf.input_.to_dict()))) == clf.input_
    True
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    dtype: str
    are_images: bool
    scale: str | None = None
    files: FileForm | None = None
    pixels: PixelStatistics | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the form as values that JSON has.

        Returns
        -------
        values : dict
            Dicts, lists, text, numbers, booleans and None, by the names of the parameters.
        """
        return {
            "shape": list(self.shape),
            "axes": list(self.axes),
            "dtype": self.dtype,
            "are_images": self.are_images,
            "scale": self.scale,
            "files": None if self.files is None else self.files.to_dict(),
            "pixels": None if self.pixels is None else self.pixels.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputForm":
        """Return the form that :meth:`to_dict` described.

        Parameters
        ----------
        values : dict
            As :meth:`to_dict` returns it, also after JSON.

        Returns
        -------
        form : InputForm
            Equal to the described form.

        Raises
        ------
        ParameterError
            If a name is missing or unknown, as in the file of another version, or a value is of
            another kind.
        """
        _check_names(cls, values)
        for name, (kind, expected) in _KINDS.items():
            if not isinstance(values[name], kind):
                raise ParameterError(name, expected, values[name])
        files, pixels = values["files"], values["pixels"]
        return cls(
            shape=tuple(values["shape"]),
            axes=tuple(values["axes"]),
            dtype=values["dtype"],
            are_images=values["are_images"],
            scale=values["scale"],
            files=None if files is None else FileForm.from_dict(files),
            pixels=None if pixels is None else PixelStatistics.from_dict(pixels),
        )


def _parted(options: dict[str, object]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options that JSON can hold, and the names of those that are functions."""
    functions = tuple(name for name in _FUNCTIONS if options.pop(name) is not None)
    return {name: _plain(value) for name, value in options.items()}, functions


def _plain(value: Any) -> Any:
    """Return an option of files as JSON gives it back."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _check_names(kind: type[FileForm] | type[InputForm], values: Mapping[str, Any]) -> None:
    names = [each.name for each in fields(kind)]
    if set(values) != set(names):
        raise ParameterError("values", f"a dict with the keys {', '.join(names)}", sorted(values))
