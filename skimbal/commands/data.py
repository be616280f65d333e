"""The data that the arguments name, and the rows that a study takes from them."""

import argparse
import re
from pathlib import Path
from typing import Any

from sklearn.utils import Bunch

from skimbal.commands.messages import warnings_as_lines
from skimbal.commands.options import OF_ARRAYS, OF_DATA, OF_FILES, OF_FOLDERS, OF_GROUPS
from skimbal.commands.parser import Options, Parser
from skimbal.datasets import (
    load_image_folder,
    load_imbalanced_digits,
    load_medmnist,
    load_npz,
)
from skimbal.datasets.bunch import join_parts, with_class_names
from skimbal.datasets.splits import SPLITS
from skimbal.wording import agree, plural

__all__ = [
    "DATA",
    "add_data",
    "folder_params",
    "is_folder",
    "load_data",
    "names_folder",
    "parts_of",
    "refuse_options_of_files",
    "rows_of_study",
]

DATA = (
    "digits (8 x 8, in scikit-learn), a MedMNIST name such as pneumoniamnist or vesselmnist3d_64 "
    "(downloaded unless it is in a folder of the environment variable SKIMBAL_DATA), or an .npz "
    "file"
)


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


def load_data(parser: Parser, args: argparse.Namespace) -> Bunch:
    """Load the data that the arguments name."""
    data, about = args.data, f"{args.data_option}{args.data}"
    if names_folder(data):
        if args.data_option:
            parser.error(f"{about} is a folder. Use 'skimbal compare {data}'.")
        return _load_folder(parser, args)
    for name in given(args, OF_FOLDERS):
        option = OF_FOLDERS[name][0]
        parser.error(f"{option} is for folders of image files, but there is no folder {data}.")
    if data.endswith(".npz"):
        try:
            return load_npz(data, groups=args.groups, **given(args, {**OF_ARRAYS, **OF_DATA}))
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
    if Path(data).name != data:
        parser.error(f"{about}: there is no such folder.")
    name, _, size = data.partition("_")
    try:
        return load_medmnist(name, int(size)) if size.isdecimal() else load_medmnist(data)
    except (ImportError, OSError, ValueError) as error:
        # The parameters of the loader are parts of the name, not options.
        parser.error(f"{about}: {error}")


def names_folder(data: str) -> bool:
    """Tell whether the text names a folder. The names of data sets come first."""
    return Path(data).is_dir() and not re.fullmatch(r"digits|\w+mnist(3d)?(_\d+)?", data)


def folder_params(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of load_image_folder that were given."""
    return given(args, {**OF_FOLDERS, **OF_DATA})


def given(args: argparse.Namespace, options: Options) -> dict[str, Any]:
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


def _load_folder(parser: Parser, args: argparse.Namespace) -> Bunch:
    refuse_options_of_files(parser, args)
    try:
        with warnings_as_lines(parser):
            data = load_image_folder(args.data, **folder_params(args))
    except (ImportError, OSError, ValueError) as error:
        parser.refuse(error, args.data, args.data)
    parts = [key.removeprefix("X_") for key in data if key.startswith("X_")]
    if parts and (set(parts) - set(SPLITS) or "train" not in parts):
        parser.error(
            f"{args.data}: the parts must be train and perhaps val and test; got "
            f"{', '.join(map(repr, parts))}."
        )
    return data


def is_folder(data: Bunch) -> bool:
    """Tell whether data come from a folder of image files."""
    return data.filename is not None and Path(data.filename).is_dir()


def parts_of(data: Bunch) -> list[str]:
    """Return the names of the splits that there are."""
    return [split for split in SPLITS if f"X_{split}" in data]


def rows_of_study(
    parser: Parser, args: argparse.Namespace, data: Bunch
) -> tuple[dict[str, Any], str]:
    """Return the rows that compare_losses divides or judges on, and a note on the other rows."""
    parts = parts_of(data)
    if args.test and "test" not in parts:
        parser.error(
            f"{args.data} has no test split to judge on. Without --test, "
            f"'skimbal compare {args.data}' cross-validates its rows."
        )
    if not parts:
        return {"X": data.X, "y": with_class_names(data, data.y), "groups": data.get("groups")}, ""
    if args.test:
        return _rows_of_test(parser, args, data)
    n = {split: len(data[f"y_{split}"]) for split in parts}
    used = [split for split in parts if split != "test"]
    rows = {
        "X": join_parts(data, "X", used),
        "y": with_class_names(data, join_parts(data, "y", used)),
    }
    if data.get("groups_train") is not None:
        rows["groups"] = join_parts(data, "groups", used)
    is_alone = "val" not in n
    note = f" of {plural(n['train'], 'training row') if is_alone else n['train']}"
    note += "" if is_alone else f" training and {plural(n['val'], 'validation row')}"
    if "test" in n:
        note += f" (the {plural(n['test'], 'test row')} {agree(n['test'], 'is', 'are')} untouched)"
    return rows, note


def _rows_of_test(
    parser: Parser, args: argparse.Namespace, data: Bunch
) -> tuple[dict[str, Any], str]:
    groups = data.get("groups_train")
    if groups is not None and data.groups_test is None:
        parser.error(
            f"--groups {args.groups}: {args.data} has no array test_{args.groups}, so groups on "
            "both sides could not be found. Add the array, or leave out --groups or --test."
        )
    note = f"; {len(data.y_train)} training and {plural(len(data.y_test), 'test row')}"
    if "X_val" in data:
        n = len(data.y_val)
        note += f" (the {plural(n, 'validation row')} {agree(n, 'is', 'are')} not used)"
    return {
        "X": data.X_train,
        "y": with_class_names(data, data.y_train),
        "groups": groups,
        "X_test": data.X_test,
        "y_test": with_class_names(data, data.y_test),
        "groups_test": data.get("groups_test"),
    }, note
