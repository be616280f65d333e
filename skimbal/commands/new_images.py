"""The images that a prediction is for: files, folders without labels, and arrays."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skimbal.classifiers.paths import advice_on_channels
from skimbal.commands.data import names_beside
from skimbal.commands.models import Model, reading_of
from skimbal.commands.options import OF_ARRAYS, OF_CHANNELS
from skimbal.commands.parser import Parser, did_you_mean
from skimbal.datasets.arrays import ArrayAxes
from skimbal.datasets.medmnist import DATA_SETS
from skimbal.datasets.npz import read_images
from skimbal.images import ImageFiles, list_images

__all__ = ["NewImages", "add_new", "find_new_images", "read_new"]


#: Endings of tables, which may list images and hold none.
_TABLES = (".csv", ".tsv", ".txt", ".json", ".xls", ".xlsx", ".ods", ".parquet")


@dataclass(frozen=True, eq=False)
class NewImages:
    """Images without labels: their names in the table, and their paths or pixels."""

    names: list[str]
    images: list[str] | np.ndarray


def add_new(parser: Parser) -> None:
    """Add NEW and its options."""
    parser.add_argument(
        "new",
        nargs="+",
        metavar="NEW",
        help="folder of image files without labels, also in folders within it, or image files, or "
        "an .npz file with images, whose labels are not read. The column file has paths relative "
        "to the folder, and for arrays the number of each image",
    )
    parser.add_options({**OF_ARRAYS, **OF_CHANNELS})


def find_new_images(parser: Parser, args: argparse.Namespace, clf: Model) -> NewImages:
    """Return the images that the arguments name."""
    texts = list(dict.fromkeys(args.new))
    of_files = clf.input_.files
    if len(texts) == 1:
        text = texts[0]
        if text.endswith(".npz") and os.path.isfile(text) and of_files is None:
            return _of_arrays(parser, args, clf, text)
    for text in texts:
        if not os.path.exists(text):
            if text == "digits" or text.partition("_")[0] in DATA_SETS:
                parser.error(
                    f"NEW must be images without labels; got {text}, a data set with labels. "
                    f"'skimbal evaluate {args.model} {text}' judges the model on its test rows. "
                    "The .npz file of the data set can be predicted."
                )
            hint = did_you_mean(Path(text).name, names_beside(Path(text), any_file=True))
            parser.error(f"{text} does not exist.{hint}")
        if text.casefold().endswith(_TABLES) and not os.path.isdir(text):
            parser.error(
                f"NEW must be images; got {text}, a table. Give the folder of the images, or the "
                "path of each image. A table with labels is an option of 'skimbal evaluate "
                f"{args.model} FOLDER --labels {text}'."
            )
    for name in (*OF_ARRAYS, *OF_CHANNELS):
        if getattr(args, name) is not None:
            option = {**OF_ARRAYS, **OF_CHANNELS}[name][0]
            parser.error(f"{option} is for an .npz file, and {texts[0]} is read as the model says.")
    reading_of(parser, args, clf)
    return _of_files(parser, clf, texts)


def _of_files(parser: Parser, clf: Model, texts: Sequence[str]) -> NewImages:
    named: dict[str, str] = {}
    for text in texts:
        if not os.path.isdir(text):
            named[text] = text
            continue
        try:
            paths = list_images(text, n_spatial=len(clf.input_.axes))
        except (OSError, ValueError) as error:
            parser.refuse(error, text, text)
        for path in paths:
            # A folder that is one image has its own name.
            is_inside = len(texts) == 1 and path != os.path.normpath(text)
            named[os.path.relpath(path, text) if is_inside else path] = path
    names = sorted(named)
    return NewImages(names, [named[name] for name in names])


def _of_arrays(parser: Parser, args: argparse.Namespace, clf: Model, path: str) -> NewImages:
    try:
        axes = ArrayAxes(args.channel_axis, args.n_spatial)
        parts = read_images(Path(path), axes, 2**31)
    except (OSError, ValueError) as error:
        parser.refuse(error, path, path)
    names: list[str] = []
    for part, images in parts.items():
        try:
            _check_shape(clf, images)
        except ValueError as error:
            parser.error(f"{path}: {f'{part}: ' if part else ''}{error}")
        names += [f"{part}/{i}" if part else str(i) for i in range(len(images))]
    return NewImages(names, np.concatenate(list(parts.values())))


def read_new(clf: Model, images: list[str] | np.ndarray) -> ImageFiles | np.ndarray:
    """Return images in the form of the fit, or refuse files whose numbers mean something else."""
    if isinstance(images, np.ndarray):
        return images
    form = clf.input_.files
    files = ImageFiles(images) if form is None else form.read(images)
    _check_shape(clf, files)
    if None not in (files.scale, clf.input_.scale) and files.scale != clf.input_.scale:
        raise ValueError(
            f"the file holds {files.scale}, and the model was fitted to {clf.input_.scale}"
        )
    return files


def _check_shape(clf: Model, images: ImageFiles | np.ndarray) -> None:
    """Refuse images of another shape than the images of the fit."""
    expected = clf.input_.shape
    shape = images.shape[1:] if images.ndim > len(expected) else (1, *images.shape[1:])
    if shape != expected:
        raise ValueError(
            f"the image has the shape {shape}, channels first, and the model takes {expected}."
            f"{_advice(clf, images, shape) if isinstance(images, ImageFiles) else ''}"
        )


def _advice(clf: Model, images: ImageFiles, shape: tuple[int, ...]) -> str:
    """Say which axes of the image may be meant otherwise."""
    path, expected = str(images.paths[0]), clf.input_.shape
    if path.endswith(".npy") and shape[1:] == expected[1:] and expected[0] == 1:
        return (
            f" A file .npy is one image. If it holds {shape[0]} images, write them to an .npz file "
            "by numpy.savez(path, images=array)."
            if clf.input_.files is None
            else f" A file .npy is one image. If it holds {shape[0]} images, write a file for each."
        )
    return advice_on_channels(shape, expected)
