"""The form in which a classifier got the files of its fit, and gets the files of predictions."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from skimbal.images.files import ImageFiles
from skimbal.typing import PathLike

__all__ = ["FileForm"]


@dataclass(frozen=True)
class FileForm:
    """Parameters of image files, without paths and functions, so that it can be saved.

    ``functions`` names the parameters that were functions: ``reader``, ``transform``.
    """

    options: dict[str, object]
    functions: tuple[str, ...]

    @classmethod
    def of(cls, images: ImageFiles) -> "FileForm":
        """Return the form of files."""
        options = images.options
        functions = tuple(name for name in ("reader", "transform") if options.pop(name) is not None)
        return cls(options, functions)

    def read(self, paths: Collection[PathLike] | np.ndarray) -> ImageFiles:
        """Return other files in this form."""
        if self.functions:
            names = " and ".join(f"{name}=" for name in self.functions)
            raise ValueError(
                f"X must be ImageFiles with the {names} of the fit; got bare paths. A classifier "
                "does not keep functions."
            )
        return ImageFiles(paths, **self.options)  # type: ignore[arg-type]
