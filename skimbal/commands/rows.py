"""The rows that a command takes from the data: parts of a split, or all."""

import argparse
from collections.abc import Collection, Sequence
from typing import Any

from sklearn.utils import Bunch

from skimbal.commands.parser import Options, Parser, names, option
from skimbal.datasets.bunch import join_parts, with_class_names
from skimbal.datasets.splits import SPLITS, split_key
from skimbal.wording import agree, plural

__all__ = [
    "choose_parts",
    "count_rows",
    "option_of_parts",
    "parts_of",
    "rows_of_study",
    "take_rows",
]

_ADJECTIVES = {"train": "training", "val": "validation", "test": "test"}


def option_of_parts(words: str) -> Options:
    """Return the option of the parts of a split, with the use and the default in words."""
    return {
        "parts": option(
            "--parts",
            f"parts of a split {words}. Data without a split have all their rows used",
            type=names,
            metavar="PART[,PART...]",
        )
    }


def parts_of(data: Bunch) -> list[str]:
    """Return the names of the splits that there are, or "" for all rows."""
    return [split for split in SPLITS if f"X_{split}" in data] or [""]


def choose_parts(
    parser: Parser, args: argparse.Namespace, data: Bunch, default: Collection[str]
) -> list[str]:
    """Return the parts that the arguments name, or the parts of a default that there are."""
    parts = parts_of(data)
    if args.parts is None:
        return parts if parts == [""] else [part for part in parts if part in default]
    if parts == [""]:
        parser.error(f"--parts is for data with a split, but {args.data} has none.")
    for part in args.parts:
        if part not in parts:
            parser.error(f"--parts must be of {', '.join(parts)} for {args.data}; got {part!r}.")
    return [part for part in parts if part in args.parts]


def take_rows(data: Bunch, parts: Sequence[str], *, named: bool = True) -> dict[str, Any]:
    """Return images, labels, by name or as they are, and groups, one part after the other."""
    has_groups = all(data.get(split_key("groups", part)) is not None for part in parts)
    labels = join_parts(data, "y", parts)
    return {
        "X": join_parts(data, "X", parts),
        "y": with_class_names(data, labels) if named else labels,
        "groups": join_parts(data, "groups", parts) if has_groups else None,
    }


def count_rows(data: Bunch, parts: Sequence[str]) -> str:
    """Say how many rows of which parts are used, and which are not."""
    n = {part: len(data[split_key("y", part)]) for part in parts_of(data)}
    counts = [f"{n[part]:,} {_ADJECTIVES.get(part, '')}".rstrip() for part in parts]
    words = f"{' and '.join(counts)} {agree(n[parts[-1]], 'row', 'rows')}"
    others = [f"{plural(n[part], f'{_ADJECTIVES[part]} row')}" for part in n if part not in parts]
    if not others:
        return words
    verb = "are" if len(others) > 1 or not others[0].startswith("1 ") else "is"
    return f"{words} (the {' and the '.join(others)} {verb} untouched)"


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
    if args.test:
        return _rows_of_test(parser, args, data)
    used = [part for part in parts if part != "test"]
    note = "" if parts == [""] else f" of {count_rows(data, used)}"
    return take_rows(data, used), note


def _rows_of_test(
    parser: Parser, args: argparse.Namespace, data: Bunch
) -> tuple[dict[str, Any], str]:
    if data.get("groups_train") is not None and data.groups_test is None:
        parser.error(
            f"--groups {args.groups}: {args.data} has no array test_{args.groups}, so groups on "
            "both sides could not be found. Add the array, or leave out --groups or --test."
        )
    note = f"; {len(data.y_train)} training and {plural(len(data.y_test), 'test row')}"
    if "X_val" in data:
        n = len(data.y_val)
        note += f" (the {plural(n, 'validation row')} {agree(n, 'is', 'are')} not used)"
    judge = {f"{name}_test": rows for name, rows in take_rows(data, ["test"]).items()}
    return {**take_rows(data, ["train"]), **judge}, note
