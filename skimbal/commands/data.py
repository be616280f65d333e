"""The data that the arguments name."""

import argparse
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn
from warnings import catch_warnings

from sklearn.utils import Bunch

from skimbal.commands.messages import warnings_as_lines
from skimbal.commands.options import (
    OF_ARRAYS,
    OF_DATA,
    OF_FILES,
    OF_FOLDERS,
    OF_GROUPS,
    OF_LISTING,
    OF_READING,
)
from skimbal.commands.parser import Parser, did_you_mean
from skimbal.datasets import (
    load_image_folder,
    load_imbalanced_digits,
    load_medmnist,
    load_medmnist_sample,
    load_npz,
)
from skimbal.datasets.medmnist import DATA_SETS, SAMPLES
from skimbal.datasets.splits import SPLITS

__all__ = [
    "DATA",
    "add_data",
    "add_test_data",
    "folder_params",
    "given",
    "is_folder",
    "load_data",
    "names_beside",
    "names_folder",
    "refuse_options_of_files",
]

DATA = (
    "digits (8 x 8, in scikit-learn), pneumoniamnist_sample or vesselmnist3d_sample (a few real "
    "images, in skimbal), a MedMNIST name such as pneumoniamnist or vesselmnist3d_64 "
    "(downloaded unless it is in a folder of the environment variable SKIMBAL_DATA), or an .npz "
    "file"
)

_SAMPLES = [f"{name}_sample" for name in SAMPLES]


def add_data(parser: Parser) -> None:
    """Add DATA and its options."""
    parser.add_argument(
        "data",
        metavar="DATA",
        help=f"{DATA}. The file has the arrays train_images, train_labels and the same for val "
        "and test, or without splits: images and labels, or X and y. Or a folder of image files "
        "(PNG, JPEG, TIFF, NIfTI, DICOM, npy, ...) with a folder for each class, or any folder "
        "with --labels",
    )
    parser.add_options({**OF_GROUPS, **OF_DATA, **OF_ARRAYS})
    parser.add_options(OF_FOLDERS, "folders of image files")
    parser.set_defaults(data_option="")


def add_test_data(parser: Parser) -> None:
    """Add TEST and its options, without the options of reading, which the model has."""
    parser.add_argument(
        "data",
        metavar="TEST",
        help="images with labels, as DATA of 'skimbal fit': a folder, an .npz file or a data set",
    )
    parser.add_options({**OF_GROUPS, **OF_DATA, **OF_ARRAYS})
    parser.add_options(OF_LISTING, "folders of image files")
    parser.add_absent(OF_READING, "Images are read as the images of the fit were.")
    parser.set_defaults(data_option="")


def load_data(
    parser: Parser,
    args: argparse.Namespace,
    reading: Mapping[str, Any] | None = None,
    *,
    is_quiet: bool = False,
) -> Bunch:
    """Load the data that the arguments name.

    ``reading`` has the parameters of image files where a model has them and no option does.
    ``is_quiet`` hides warnings, which an inspection finds itself.
    """
    data, about = args.data, f"{args.data_option}{args.data}"
    if names_folder(data):
        if args.data_option:
            parser.error(f"{about} is a folder. Use 'skimbal compare {data}'.")
        return _load_folder(parser, args, reading)
    for name in given(args, OF_FOLDERS):
        option, hint = OF_FOLDERS[name][0], did_you_mean(Path(data).name, names_beside(Path(data)))
        hint = "" if Path(data).exists() else hint
        parser.error(
            f"{option} is for folders of image files, but there is no folder {data}.{hint}"
        )
    if data.endswith(".npz"):
        try:
            with catch_warnings(record=True) if is_quiet else warnings_as_lines(parser):
                return load_npz(data, groups=args.groups, **given(args, {**OF_ARRAYS, **OF_DATA}))
        except FileNotFoundError as error:
            hint = did_you_mean(Path(data).name, names_beside(Path(data)))
            parser.error(f"{args.data_option}{error}{hint}")
        except (OSError, ValueError) as error:
            of_groups = "" if args.groups is None else f" --groups {args.groups}"
            parser.refuse(error, f"{about}{of_groups}", data)
    for name in given(args, OF_FILES):
        parser.error(
            f"{OF_FILES[name][0]} is for .npz files; got {getattr(args, name)!r}, but {data} is "
            "not such a file."
        )
    if data == "digits":
        return load_imbalanced_digits()
    if data in _SAMPLES:
        return load_medmnist_sample(data.removesuffix("_sample"))
    name, _, size = data.partition("_")
    if name not in (*DATA_SETS, "chestmnist") or (size and not size.isdecimal()):
        _refuse_unknown(parser, data, about)
    try:
        return load_medmnist(name, int(size)) if size.isdecimal() else load_medmnist(data)
    except (ImportError, OSError, ValueError) as error:
        # The parameters of the loader are parts of the name, not options.
        parser.error(f"{about}: {error}")


def _refuse_unknown(parser: Parser, data: str, about: str) -> NoReturn:
    """Refuse a text that names neither a folder nor a data set, with the names that resemble it."""
    path = Path(data)
    if path.is_dir():
        parser.error(f"{about} is read as the name of a data set. For the folder, write {data}/.")
    if path.exists():
        parser.error(f"{about} must be a folder or an .npz file; got another file.")
    if path.name != data:
        hint = did_you_mean(path.name, names_beside(path))
        parser.error(f"{about}: there is no such folder.{hint}")
    hint = did_you_mean(data, [*names_beside(path), "digits", *_SAMPLES, *DATA_SETS])
    names = ", ".join(["digits", *_SAMPLES, *DATA_SETS])
    parser.error(
        f"{about} must be {'a folder, ' * (about == data)}an .npz file or the name of a "
        f"data set: {names}; got {data!r}, which does not exist.{hint}"
    )


def names_beside(path: Path, *, any_file: bool = False) -> list[str]:
    """Return the folders and .npz files in the folder of a path, or all its files."""
    try:
        entries = list(os.scandir(path.parent))
    except OSError:
        return []
    return [e.name for e in entries if any_file or e.name.endswith(".npz") or e.is_dir()]


def names_folder(data: str) -> bool:
    """Tell whether the text names a folder. The names of data sets come first."""
    return Path(data).is_dir() and not re.fullmatch(r"digits|\w+mnist(3d)?(_\d+|_sample)?", data)


def folder_params(parser: Parser, args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of load_image_folder that were given."""
    params = given(args, {**OF_FOLDERS, **OF_DATA})
    if "labels" in params:
        params["labels"] = _find_table(parser, params["labels"], Path(args.data))
    return params


def _find_table(parser: Parser, table: Path, folder: Path) -> Path:
    """Return the path of a table that lies in the working directory or beside the images."""
    beside = folder / table
    if table.is_absolute() or not beside.is_file():
        return table
    if table.is_file() and not table.samefile(beside):
        parser.error(
            f"--labels {table} is a file in the working directory and a file in {folder}. Give the "
            f"whole path: {table.absolute()} or {beside.absolute()}."
        )
    return beside


def given(args: argparse.Namespace, options: Iterable[str]) -> dict[str, Any]:
    """Return the parameters whose options were given."""
    given = {name: getattr(args, name, None) for name in options}
    return {name: value for name, value in given.items() if value is not None}


def refuse_options_of_files(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse options of .npz files for a folder."""
    for name in given(args, {**OF_GROUPS, **OF_ARRAYS}):
        remedy = "Give --labels FILE.csv --group-column NAME." if name == "groups" else ""
        parser.error(
            f"{OF_FILES[name][0]} is for .npz files; got {getattr(args, name)!r}, but {args.data} "
            f"is a folder. {remedy}"
        )


def _load_folder(
    parser: Parser, args: argparse.Namespace, reading: Mapping[str, Any] | None
) -> Bunch:
    refuse_options_of_files(parser, args)
    if reading is not None and args.channel_axis is not None:
        parser.error(
            f"--channel-axis is for .npz files, and {args.data} is read as the model says."
        )
    try:
        with warnings_as_lines(parser):
            params = {**(reading or {}), **folder_params(parser, args)}
            # A model knows its classes, and test images may be of one.
            data = load_image_folder(
                args.data, min_classes=1 if reading is not None else 2, **params
            )
    except (ImportError, OSError, ValueError) as error:
        parser.refuse(error, args.data, args.data)
    parts = [key.removeprefix("X_") for key in data if key.startswith("X_")]
    is_test = reading is not None
    if parts and (set(parts) - set(SPLITS) or ("train" not in parts and not is_test)):
        parser.error(
            f"{args.data}: the parts must be train and perhaps val and test; got "
            f"{', '.join(map(repr, parts))}."
        )
    return data


def is_folder(data: Bunch) -> bool:
    """Tell whether data come from a folder of image files."""
    return data.filename is not None and Path(data.filename).is_dir()
