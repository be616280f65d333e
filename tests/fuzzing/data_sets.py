"""Random tables and folder trees, and what must hold for each: right labels, or a named error."""

import csv
import io
import os
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from skimbal.datasets import inspect_folder, load_image_folder
from tests.fuzzing.mutations import blind

#: Files by their names. A name that ends with "/" is a folder, and a text a link to a file.
Files = dict[str, bytes | str]


class WrongDataError(AssertionError):
    """Data that are neither right nor refused by name."""


def _image(number: int) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.full((2, 2), number, np.uint8))
    return stream.getvalue()


# Tables ---------------------------------------------------------------------------------------

NAMES = ("a", "b c", "é", "x.1", "ward 3, bed 1", "d;e", "🙂", "f'g", "-9", "0", "0.0", "1,0")
MISSING = ("", " ", "NA", "nan", "None", "NULL", "<NA>", "#N/A", "\t", "?")
ODD = ("line\nbreak", 'say "x"', "=1+1", "\x07", "a" * 1200, "\u200b", "\ufeff", "#", "\\", "-")
PARTS = {
    **{"train": "train", "Training": "train", "TRAIN": "train", " train": "train"},
    **{"val": "val", "valid": "val", "Validation": "val", "test": "test", "TEST": "test"},
}
PATHS = ("{}", "./{}", "sub/../{}", "{} ", "{}.gone", "../{}", "{}\\", "")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252")


def make_table(random: Random) -> tuple[Files, dict[str, Any]]:
    """Return files with a table, the parameters of the loader, and the rows of the table."""
    files: Files = {f"{i}.npy": _image(i) for i in range(random.randint(2, 8))}
    columns = ["path", "label", "patient", "part", "note"]
    has = {name: random.random() < 0.5 for name in ("patient", "part")}
    rows = []
    for name in [*files, *random.choices([*files], k=random.choice((0, 0, 0, 1, 2)))]:
        path = random.choice(PATHS) if random.random() < 0.1 else "{}"
        rows.append([path.format(name), _text(random), _text(random), _part(random), ""])
    if random.random() < 0.1:
        columns[random.randrange(5)] = random.choice(columns)
    if random.random() < 0.3:
        random.shuffle(columns)
        order = [("path", "label", "patient", "part", "note").index(c) for c in columns]
        rows = [[row[k] for k in order] for row in rows] if len(set(order)) == 5 else rows
    delimiter = random.choice(",;\t|")
    encoding = random.choice(ENCODINGS)
    text = _written(columns, rows, delimiter, random)
    data = text.encode(encoding, "replace")
    is_whole = random.random() < 0.7
    if not is_whole:
        data = bytes(blind(bytearray(data), random))
    files["t.csv"] = data
    options: dict[str, Any] = {"labels": "t.csv"}
    options |= {"group_column": "patient"} if has["patient"] else {}
    options |= {"split_column": "part"} if has["part"] else {}
    options |= {"encoding": "cp1252"} if encoding == "cp1252" else {}
    options["on_error"] = random.choice(("raise", "skip"))
    same = len(set(columns)) == 5
    if encoding == "cp1252":  # a question mark stands for what it lacks
        rows = [[text.encode(encoding, "replace").decode(encoding) for text in row] for row in rows]
    truth = [dict(zip(columns, row, strict=True)) for row in rows]
    return files, {"load": options, "rows": truth, "is_whole": is_whole, "same": same}


def _text(random: Random) -> str:
    pool = random.choices((NAMES, MISSING, ODD), (20, 1, 1))[0]
    return random.choice(pool[: random.choice((2, 2, len(pool)))])


def _part(random: Random) -> str:
    return random.choice([*PARTS, "foo", ""] if random.random() < 0.05 else [*PARTS])


def _written(columns: list[str], rows: list[list[str]], delimiter: str, random: Random) -> str:
    stream = io.StringIO(newline="")
    line_end = random.choice(("\n", "\r\n", "\r"))
    quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    if line_end == "\r":  # the writer does not quote a "\n" then, which ends a line too
        quoting = csv.QUOTE_ALL
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(row)
        if random.random() < 0.05:
            writer.writerow([])
    return stream.getvalue()


def _check_table(root: Path, data: Any, facts: dict[str, Any]) -> None:
    """Compare the rows of a loader with the rows that were written."""
    if not facts["is_whole"]:
        return
    if not facts["same"]:
        raise WrongDataError("a table with two columns of one name was read")
    got = {
        os.path.basename(path): (label, group, part) for path, label, group, part in _rows_of(data)
    }
    written: dict[str, list[dict[str, str]]] = {}
    for row in facts["rows"]:
        written.setdefault(os.path.basename(row["path"].strip()), []).append(row)
    load = facts["load"]
    used = {"label", *(["patient"] if "group_column" in load else [])}

    def is_plain(row: dict[str, str]) -> bool:
        texts = all(row[key] in NAMES for key in used)
        return (
            texts and row["path"] == os.path.basename(row["path"]) and facts_of(row)[2] is not None
        )

    def facts_of(row: dict[str, str]) -> tuple[str, str | None, str | None]:
        part = PARTS.get(row["part"]) if "split_column" in load else ""
        return row["label"].strip(), row["patient"].strip() if "patient" in used else None, part

    for name, of_row in got.items():
        # A row that cannot be used is left out, and another row may name the same file.
        of_name = written.get(name, [])
        if of_row not in map(facts_of, of_name):
            raise WrongDataError(f"{name} is {of_row}, which no row of the table is")
        if set(of_row[:2]) & set(MISSING):
            raise WrongDataError(f"{name} has a missing value: {of_row}")
        if len({facts_of(row) for row in of_name if is_plain(row)}) > 1:
            raise WrongDataError(f"{name} has two labels, groups or parts in the table")
    for name, of_name in written.items():
        is_alone = len(of_name) == 1 and is_plain(of_name[0])
        if is_alone and name.endswith(".npy") and name not in got:
            raise WrongDataError(f"{name} is missing, and nothing is wrong with its row {of_name}")


# Trees ----------------------------------------------------------------------------------------

SPLITS = {
    **{"train": "train", "Training": "train", "TRAIN": "train", "imagesTr": "train"},
    **{"val": "val", "Validation": "val", "valid": "val", "train2017": "train"},
    **{"test": "test", "Testing": "test", "TEST": "test", "test_set": "test"},
}
CLASSES = ("a", "b", "c d", "none", "é", "1", "10.0", "🙂", "test_tube", "-x", "e" * 200, "f\ng")
HIDDEN = (".h", "__MACOSX", ".ipynb_checkpoints")
LEAVES = ("1.npy", "2.npy", "n.txt", ".DS_Store", "Thumbs.db", "3.NPY", "é.npy", "p\n.npy")


def make_tree(random: Random) -> tuple[Files, dict[str, Any]]:
    """Return files in folders, and the parameters of the loader."""
    style = random.choice(("classes", "split above", "split below", "any", "any"))
    files: Files = {}
    n_files = random.randint(2, 14)
    classes = random.sample(CLASSES, random.randint(1, 4))
    splits = random.sample([*SPLITS], random.randint(1, 3))
    for i in range(n_files):
        folders = {
            "classes": [random.choice(classes)],
            "split above": [random.choice(splits), random.choice(classes)],
            "split below": [random.choice(classes), random.choice(splits)],
            "any": random.choices([*SPLITS, *CLASSES, *HIDDEN], k=random.randint(0, 4)),
        }[style]
        folders += random.choices(CLASSES, k=random.choice((0, 0, 0, 1)))
        leaf = random.choice(LEAVES) if random.random() < 0.2 else f"{i}.npy"
        files["/".join([*folders, leaf])] = _image(i)
    for _ in range(random.choice((0, 0, 1, 2))):
        where = random.choice([*files]).split("/")[:-1]
        target = random.choice(["..", ".", "gone", "../..", "/dev/null", *files, *CLASSES])
        files["/".join([*where[: random.randint(0, 2)], f"link{random.randint(0, 9)}"])] = target
    for _ in range(random.choice((0, 0, 1))):
        files[f"{random.choice(CLASSES)}/"] = b""
    load: dict[str, Any] = {"on_error": random.choice(("raise", "skip"))}
    if random.random() < 0.2:
        load["splits"] = random.choice(
            ({}, {name: SPLITS.get(name) for name in splits}, {"a": "train", "b": "test"})
        )
    return files, {"load": load}


def _check_tree(root: Path, data: Any, facts: dict[str, Any]) -> None:
    """Compare labels and parts with the folders of each image."""
    given = facts["load"].get("splits")
    known = SPLITS if given is None else given
    seen = set()
    for path, label, _, part in _rows_of(data):
        folders = os.path.relpath(path, root).split(os.sep)[:-1]
        seen.add(os.path.realpath(path))
        if label not in folders[: 2 if part else 1]:
            raise WrongDataError(f"{path} has the label {label!r}")
        if given is None and set(folders[:2]) & set(SPLITS) and not part:
            raise WrongDataError(f"{path} has no part")
        if label in known:
            raise WrongDataError(f"{path} has the part {label!r} for a class")
        if part and part not in {known.get(name) for name in folders[:2]}:
            raise WrongDataError(f"{path} is in {part}")
    left_out = {name for name, part in (given or {}).items() if part is None}
    for path in root.rglob("*.npy"):
        parts = set(path.relative_to(root).parts)
        is_known = os.path.realpath(path) in seen or str(path) in data.skipped
        if not is_known and not parts & {*HIDDEN, *left_out}:
            raise WrongDataError(f"{path} is neither read nor skipped")


# Both -----------------------------------------------------------------------------------------

MAKERS = {"table": make_table, "tree": make_tree}
_CHECKS = {"table": _check_table, "tree": _check_tree}


def write_set(files: Files, folder: Path) -> Path:
    """Write a data set into an empty folder, and return the folder of its images."""
    root = folder / "1" / "2" / "3" / "root"  # so that links lead to no files of others
    root.mkdir(parents=True)
    for name, content in files.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            if not os.path.lexists(path):
                path.symlink_to(content)
        else:
            path.write_bytes(content)
    return root


def _rows_of(data: Any) -> list[tuple[str, str, str | None, str]]:
    rows: list[tuple[str, str, str | None, str]] = []
    for key in [key for key in data if key == "X" or key.startswith("X_")]:
        end = key[1:]
        labels = data[f"y{end}"].tolist()
        groups = data[f"groups{end}"].tolist() if f"groups{end}" in data else [None] * len(labels)
        rows += [
            (path, label, group, end[1:])
            for path, label, group in zip(data[key].paths, labels, groups, strict=True)
        ]
    return rows


def check_set(root: Path, name: str, facts: dict[str, Any]) -> str:
    """Load a data set and return "read" or "refused", or raise an error about wrong data."""
    load = dict(facts["load"])
    if "labels" in load:
        load["labels"] = root / load["labels"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = load_image_folder(root, **load)
        except (ValueError, FileNotFoundError) as error:
            data = None
            if str(root) not in str(error) and "splits" not in str(error):
                raise WrongDataError(
                    f"an error without the name of the folder: {error!r}"
                ) from error
        loads = _inspected(root, load)
    if loads != (data is not None):
        raise WrongDataError(f"an inspection says that loads is {loads}, and the loader differs")
    if data is None:
        return "refused"
    for key in [key for key in data if key == "X" or key.startswith("X_")]:
        np.asarray(data[key])
    _CHECKS[name](root, data, facts)
    return "read"


def _inspected(root: Path, load: dict[str, Any]) -> bool:
    try:
        inspection = inspect_folder(root, **load)
        str(inspection)
    except (ValueError, FileNotFoundError):  # a table or a parameter
        return False
    return inspection.loads
