"""Images that are read when a batch asks for them: rows of an array, or files."""

from skimbal.images._reading import DecodedImage, ReadRequest
from skimbal.images.array import ImageArray, concatenate
from skimbal.images.axes import GuessedAxes, guess_axes
from skimbal.images.files import ImageFiles, ImageOptions
from skimbal.images.folders import list_images
from skimbal.images.form import FileForm, InputForm
from skimbal.images.formats import FORMATS, Format, find_images
from skimbal.images.pixels import PixelStatistics

__all__ = [
    "FORMATS",
    "DecodedImage",
    "FileForm",
    "Format",
    "GuessedAxes",
    "ImageArray",
    "ImageFiles",
    "ImageOptions",
    "InputForm",
    "PixelStatistics",
    "ReadRequest",
    "concatenate",
    "find_images",
    "guess_axes",
    "list_images",
]
