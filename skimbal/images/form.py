"""The form in which a classifier got the files of its fit, and gets the files of predictions."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from skimbal.images.files import ImageFiles
from skimbal.typing import PathLike

__all__ = ["FileForm"]

_AS_STORED = (None, "stored")


@dataclass(frozen=True)
class FileForm:
    """Parameters and scale of image files, without paths and functions, so that it can be saved.

    ``functions`` names the parameters that were functions: ``reader``, ``transform``.
    """

    options: dict[str, object]
    functions: tuple[str, ...]
    full_range: tuple[float, float] | None
    unit: str | None

    @classmethod
    def of(cls, images: ImageFiles) -> "FileForm":
        """Return the form of files."""
        facts, options = images.scale, images.options
        functions = tuple(name for name in ("reader", "transform") if options.pop(name) is not None)
        return cls(options, functions, facts.full_range, facts.unit)

    def read(self, paths: Collection[PathLike] | np.ndarray) -> ImageFiles:
        """Return other files in this form."""
        if self.functions:
            names = " and ".join(f"{name}=" for name in self.functions)
            raise ValueError(
                f"X must be ImageFiles with the {names} of the fit; got bare paths. A classifier "
                "does not keep functions."
            )
        return ImageFiles(paths, **self.options)  # type: ignore[arg-type]

    def check(self, images: ImageFiles) -> None:
        """Refuse files whose numbers have another scale than the files of the fit."""
        other = FileForm.of(images)
        mine, theirs = self.options["intensity"], other.options["intensity"]
        as_stored = mine in _AS_STORED and theirs in _AS_STORED
        if mine != theirs and not as_stored:
            raise ValueError(
                f"X must be read with intensity={mine!r}, as the files of the fit; got "
                f"intensity={theirs!r}. Pass ImageFiles(paths, intensity={mine!r}), or bare paths, "
                "which are read as in the fit."
            )
        if isinstance(mine, str) or isinstance(theirs, str):
            return
        is_one_unit = self.unit == other.unit
        if not is_one_unit or (mine is None and self.full_range != other.full_range):
            raise ValueError(
                f"X must hold numbers of the same scale as the files of the fit, {self._words()}; "
                f"got {other._words()} in {images.paths[0]}. Fit and predict with one rule, such "
                "as intensity='percentiles', or pass intensity='stored' if the scales agree."
            )

    def _words(self) -> str:
        if self.unit is not None:
            return f"the unit {self.unit}"
        if self.full_range is None:
            return "no stated range or unit"
        least, greatest = self.full_range
        return f"{least:g} to {greatest:g}"
