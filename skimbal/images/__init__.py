"""Images that are read when a batch asks for them: rows of an array, or files."""

from skimbal.images._reading import DecodedImage, ReadRequest
from skimbal.images.array import ImageArray, concatenate
from skimbal.images.axes import GuessedAxes, guess_axes
from skimbal.images.files import ImageFiles, ImageOptions
from skimbal.images.formats import FORMATS, Format, find_images

__all__ = [
    "FORMATS",
    "DecodedImage",
    "Format",
    "GuessedAxes",
    "ImageArray",
    "ImageFiles",
    "ImageOptions",
    "ReadRequest",
    "concatenate",
    "find_images",
    "guess_axes",
]
