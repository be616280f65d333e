"""Images that are read when a batch asks for them: rows of an array, or files."""

from skimbal.images.array import ImageArray, concatenate
from skimbal.images.files import ImageFiles
from skimbal.images.formats import find_images

__all__ = ["ImageArray", "ImageFiles", "concatenate", "find_images"]
