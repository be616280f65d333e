"""Tables of image files: csv files in the dialects of spreadsheets, R and pandas."""

import codecs
import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from skimbal.datasets.labels import Missing
from skimbal.datasets.listing import FolderRow, Listing, Reasons, file_identity, find_repeated
from skimbal.datasets.splits import (
    SPLITS,
    SplitNames,
    near_names,
    part_of_value,
    read_split_names,
)
from skimbal.datasets.unused import unused_groups, words_on_unused
from skimbal.exceptions import ParameterError
from skimbal.images import find_images
from skimbal.wording import agree, plural

__all__ = ["TableForm", "list_table"]

_DELIMITERS = ",;\t|"
#: The longest text of a label, group or part. A longer one is a report or a quote without its end.
_MOST_LETTERS = 1000
#: Marks at the beginning of a file, the longest first, with the encodings that they state.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


@dataclass(frozen=True)
class TableForm:
    """The columns of a table, by the parameters that name them, and the meaning of its texts."""

    columns: Mapping[str, str | None]
    missing: Missing
    splits: SplitNames | None
    encoding: str | None

    def check(self) -> None:
        """Refuse columns and encodings that cannot be."""
        if self.encoding is not None and not isinstance(self.encoding, str):
            raise ParameterError("encoding", "the name of an encoding or None", self.encoding)
        has_column = self.columns["split_column"] is not None
        if self.splits is not None and bool(self.splits) != has_column:
            raise ParameterError(
                "splits",
                "None or the parts of all values of split_column"
                if has_column
                else "None or {} without split_column",
                self.splits,
            )
        named = Counter(name for name in self.columns.values() if name is not None)
        for parameter, name in self.columns.items():
            if name is not None and not isinstance(name, str):
                raise ParameterError(parameter, "the name of a column", name)
            if name is not None and named[name] > 1:
                others = [p for p, n in self.columns.items() if n == name and p != parameter]
                raise ParameterError(parameter, f"another column than {', '.join(others)}", name)


class _Entry(NamedTuple):
    """A row of a table: its place, its values by parameter, and the reason against them."""

    place: str
    values: dict[str, str]
    reason: str | None


def list_table(root: Path, table: Path, form: TableForm, *, any_file: bool) -> Listing:
    """Return the images of a table, and the reasons against other rows and images."""
    form.check()
    rows: list[FolderRow] = []
    unusable: Reasons = {}
    mentioned: set[str] = set()
    outside: list[str] = []
    for entry in _read_table(table, form):
        row, reason = _read_entry(entry, root, form, any_file)
        if entry.values:
            mentioned.add(os.path.normpath(root / entry.values["path_column"]))
        if reason is not None:
            unusable[entry.place] = reason
        elif row is not None:
            rows.append(row)
            if os.path.isabs(entry.values["path_column"]) and _leads_out(row.path, root):
                outside.append(row.path)
    notes = []
    if outside:
        n = len(outside)
        notes.append(
            f"{plural(n, 'path')} of {table} {agree(n, 'is', 'are')} absolute and "
            f"{agree(n, 'leads', 'lead')} out of {root}, the first of them to "
            f"{outside[0]}."
        )
    repeated = find_repeated(rows)
    unusable |= repeated
    if not any_file:
        unusable |= _not_listed(root, table, mentioned)
    rows = [row for row in rows if row.place not in repeated]
    columns = _unused_columns(table, form)
    notes += _notes_on_splits(root, rows, form, columns)
    groups = [] if form.columns["group_column"] is not None else unused_groups(columns)
    notes += words_on_unused(groups, "column", "group_column")
    return Listing(rows, unusable, notes, groups)


def _inner_place(root: Path, given: str) -> str:
    """Say that an image of a table lies in a folder within the root, if it does."""
    try:
        folders = [entry.path for entry in os.scandir(root) if entry.is_dir()]
    except OSError:
        return ""
    found = [folder for folder in folders if os.path.lexists(os.path.join(folder, given))]
    return f". It is in {found[0]}, so give this folder" if len(found) == 1 else ""


def _read_entry(
    entry: _Entry, root: Path, form: TableForm, any_file: bool
) -> tuple[FolderRow | None, str | None]:
    """Return the image of a row, None to leave it out, or the reason against it."""
    if entry.reason is not None:
        return None, entry.reason
    values = entry.values
    given = values["path_column"]
    path = os.path.normpath(root / given)
    if not os.path.isabs(given) and _leads_out(path, root):
        return None, f"the path {given!r} leads out of {root}"
    if not any_file and not os.path.lexists(path):
        hint = (
            ". The path has backslashes. Write slashes" if "\\" in given and os.sep == "/" else ""
        )
        hint = hint or _inner_place(root, given)
        return None, f"a label without an image, as {path} does not exist{hint}"
    part = values.get("split_column")
    if part is not None:
        part, reason = _read_part(part, form)
        if part is None:
            return None, reason
    return FolderRow(
        path, values["label_column"], values.get("group_column"), part, entry.place
    ), None


def _read_part(value: str, form: TableForm) -> tuple[str | None, str | None]:
    """Return the part that a value of the split column means, or the reason against it."""
    column = form.columns["split_column"]
    if form.splits is not None and value in form.splits:
        return form.splits[value], None
    part = part_of_value(value) if form.splits is None else None
    if part is not None:
        return part, None
    known = SPLITS if form.splits is None else tuple(form.splits)
    return None, (
        f"the column {column!r} must hold {', '.join(known)}; got {value!r}."
        f"{near_names(value, known)} Say which part it is, with None to leave its rows out: "
        f"splits={{{value!r}: 'train', ...}}"
    )


def _leads_out(path: str, root: Path) -> bool:
    """Tell whether a path leads out of a folder, by its names."""
    inside = Path(os.path.abspath(path))
    return not inside.is_relative_to(os.path.abspath(root))


def _not_listed(root: Path, table: Path, mentioned: set[str]) -> Reasons:
    """Return the images of a folder that no row of the table mentions, under any name."""
    unlisted = []
    for name in find_images(root, series_level=None)[0]:
        path = os.path.normpath(root / name)
        if not mentioned & {path, *map(str, Path(path).parents)}:
            unlisted.append(path)
    files = {file_identity(path) for path in mentioned} if unlisted else set()
    reason = f"an image without a label, as {table} does not list it"
    return {path: reason for path in unlisted if file_identity(path) not in files}


def _notes_on_splits(
    root: Path, rows: list[FolderRow], form: TableForm, columns: Mapping[str, list[str]]
) -> list[str]:
    """Return a note where a column or the paths look like a split that is not asked for."""
    if form.columns["split_column"] is not None or form.splits is not None:
        return []
    paths = (os.path.relpath(row.path, root) for row in rows)
    of_paths = read_split_names({path.split(os.sep)[0] for path in paths if os.sep in path})
    doubt = "which look like a split, and all images are put together"
    for name, values in columns.items():
        known = {part_of_value(value): value for value in set(values)}
        if _is_called_split(name) and len(set(known) - {None}) > 1:
            return [
                f"the column {name!r} of the table holds {', '.join(sorted(set(values)))}, {doubt}."
                f" Name it as split_column={name!r}, or pass splits={{}}."
            ]
    if len(set(of_paths.parts.values())) > 1:
        return [
            f"the paths lie in {', '.join(sorted(of_paths.parts))}, {doubt}. Name a column of "
            "parts as split_column=, or pass splits={}."
        ]
    return []


def _is_called_split(name: str) -> bool:
    called = ("split", "set", "subset", "partition", "part", "fold", "phase", "usage", "datasplit")
    return "".join(filter(str.isalpha, name.casefold())) in called


# The csv file ----------------------------------------------------------------------------------


def _read_table(table: Path, form: TableForm) -> Iterator[_Entry]:
    """Yield the rows of a csv file below the names of its columns."""
    if not table.is_file():
        raise FileNotFoundError(
            f"labels must be a csv file that exists; got {table}. A relative path starts at the "
            f"current folder, {Path.cwd()}."
        )
    text = _read_text(table, form.encoding)
    delimiter, names = _find_delimiter(table, text, form)
    place_of = {p: names.index(name) for p, name in form.columns.items() if name is not None}
    entries = _parse(table, text, delimiter)
    next(entries)
    for line, fields in entries:
        place = f"{table}, line {line}"
        if len(fields) != len(names):
            reason = (
                f"{plural(len(fields), 'field')}, and the first row names "
                f"{plural(len(names), 'column')}. Put quotes around text that holds {delimiter!r}"
            )
            yield _Entry(place, {}, reason)
            continue
        values = {parameter: fields[k].strip() for parameter, k in place_of.items()}
        yield _Entry(place, values, _reason_against(values, form))


def _unused_columns(table: Path, form: TableForm) -> dict[str, list[str]]:
    """Return the columns that no parameter names, by their names."""
    text = _read_text(table, form.encoding)
    delimiter, names = _find_delimiter(table, text, form)
    rows = [fields for _, fields in _parse(table, text, delimiter) if len(fields) == len(names)]
    used = set(form.columns.values())
    return {
        name: [fields[k].strip() for fields in rows[1:]]
        for k, name in enumerate(names)
        if name and name not in used
    }


def _reason_against(values: Mapping[str, str], form: TableForm) -> str | None:
    """Return the reason against the texts of a row, if there is one."""
    for parameter, value in values.items():
        column = form.columns[parameter]
        if not value:
            return f"the column {column!r} is empty"
        if value in form.missing:
            return (
                f"the column {column!r} holds {value!r}, which stands for a missing value. If it "
                "is a name here, pass missing_values=[]"
            )
        if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in value):
            return (
                f"the column {column!r} holds {value[:40]!r}, with a line break or control "
                "character. Look for a quote without its end"
            )
        if len(value) > _MOST_LETTERS:
            return f"the column {column!r} holds a text of {len(value):,} letters"
    return None


def _read_text(table: Path, encoding: str | None) -> str:
    """Return the text of a file. A mark at its beginning states the encoding."""
    data = table.read_bytes()
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    used = marked or encoding or "utf-8"
    try:
        text = data.decode(used)
    except LookupError as error:
        raise ParameterError("encoding", "the name of an encoding", encoding) from error
    except UnicodeError as error:
        line = data.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise ParameterError(
            "labels",
            f"a csv file in {used.removesuffix('-sig').upper()}",
            str(table),
            f"Line {line} cannot be read: {error}. Save the table in UTF-8, or name its encoding, "
            "such as encoding='cp1252'.",
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ParameterError(
            "labels",
            "a csv file",
            str(table),
            f"Line {line} holds a NUL character. Save the table in UTF-8, or name its encoding, "
            "such as encoding='utf-16'.",
        )
    return text


def _parse(table: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that hold anything, each with the number of its first line."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    line = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        remedy = f"The row in line {line} cannot be read: {error}."
        raise ParameterError("labels", "a csv file in UTF-8", str(table), remedy) from error


def _find_delimiter(table: Path, text: str, form: TableForm) -> tuple[str, list[str]]:
    """Return the delimiter whose columns have the names that are asked for, and all names."""
    wanted = {name for name in form.columns.values() if name is not None}
    heads: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS:
        try:
            heads[delimiter] = [name.strip() for name in next(_parse(table, text, delimiter))[1]]
        except (ParameterError, StopIteration):
            continue
    # Without any, the delimiter that finds most names says best which columns there are.
    if not heads:
        next(_parse(table, text, ","), None)  # raises for a row that cannot be read
        heads[","] = []
    best = max(heads, key=lambda d: (len(wanted & set(heads[d])), len(heads[d])))
    names = heads[best]
    for parameter, name in form.columns.items():
        if name is not None and name not in names:
            shown = ", ".join(map(repr, names)) or "no columns"
            remedy = "The first row must name the columns." if names else "The file is empty."
            raise ParameterError(parameter, f"a column of {table}, which has {shown}", name, remedy)
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise ParameterError(
            "labels",
            "a csv file with one column of each name",
            str(table),
            f"Several columns are called {twice[0]!r}.",
        )
    return best, names
