"""Tables of image files: dialects of csv, missing values, paths, parts."""

import csv
import io
import os
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skimbal.datasets import load_image_folder
from skimbal.exceptions import ParameterError
from tests.datasets.test_folder import write_images


@pytest.fixture
def root(tmp_path):
    return write_images(tmp_path / "images", ["a.npy", "b.npy", "c.npy", "d.npy"])


@pytest.fixture
def load(root, tmp_path):
    """Return a function that writes a table beside the images, and loads it."""

    def load(text, saved_as="utf-8", **options):
        table = tmp_path / "table.csv"
        table.write_bytes(text if isinstance(text, bytes) else text.encode(saved_as))
        return load_image_folder(root, labels=table, **options)

    return load


ROWS = [
    ("a.npy", "ill, mild", "p1"),
    ("b.npy", "é", "p2"),
    ("c.npy", "é", "p1"),
    ("d.npy", "é", ""),
]
PLAIN = "path,label,patient\na.npy,x,p1\nb.npy,y,p2\nc.npy,y,p1\nd.npy,x,p3\n"
WITH_GROUPS = {"group_column": "patient"}

DIALECTS = {
    "commas": PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "CR": PLAIN.replace("\n", "\r"),
    "no last line end": PLAIN.rstrip("\n"),
    "spaces": PLAIN.replace(",", " , ").replace("\n", " \n"),
    "quotes": '"' + PLAIN.replace(",", '","').replace("\n", '"\n"')[:-1],
    "quotes after spaces": PLAIN.replace("x,p1", '"x", "p1"'),
    "empty lines": "\n" + PLAIN.replace("\n", "\n\n") + "\n\n,,\n , ,\n",
    "index of pandas": "".join(f"{i or ''},{line}\n" for i, line in enumerate(PLAIN.splitlines())),
    "mark": "\ufeff" + PLAIN,
    "mark and quotes": "\ufeff" + PLAIN.replace("path", '"path"'),
    "other columns": "".join(
        f'"{i};|""\n,",{line}\n' if i else f"note;s|x,{line}\n"
        for i, line in enumerate(PLAIN.splitlines())
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(load, dialect):
    data = load(DIALECTS[dialect], **WITH_GROUPS)
    assert [os.path.basename(path) for path in data.X.paths] == [f"{c}.npy" for c in "abcd"]
    assert data.y.tolist() == ["x", "y", "y", "x"]
    assert data.groups.tolist() == ["p1", "p2", "p1", "p3"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "cp1252", "latin-1"])
def test_encodings(load, encoding):
    text = PLAIN.replace("x", "é")
    data = load(text, encoding, encoding=encoding, **WITH_GROUPS)
    assert data.target_names == ["y", "é"]
    if encoding in ("utf-16", "utf-32"):
        assert load(text, encoding, **WITH_GROUPS).target_names == ["y", "é"]
    else:
        with pytest.raises(
            ParameterError, match=r"^labels must be a csv file.*table\.csv.*[Ll]ine"
        ):
            load(text, encoding)


MISTAKES = {
    "a long row": ("b.npy,y,ward 3, bed 1", "4 fields, and the first row names 3 columns"),
    "a short row": ("b.npy,y", "2 fields, and the first row names 3 columns"),
    "leads out": ("../images/../x.npy,y,p2", "leads out of"),
    "does not exist": ("e.npy,y,p2", "e.npy does not exist"),
    "backslashes": ("sub\\b.npy,y,p2", "does not exist. The path has backslashes"),
    "line break": ('b.npy,"y\nz",p2', "with a line break"),
    "control character": ("b.npy,y\x01,p2", "control character"),
    "a report": (f"b.npy,{'y' * 1001},p2", "a text of 1,001 letters"),
    "twice": ("a.npy,x,p1", "a.npy is the same file as in .*line 2"),
}
MISSING = ["", " ", "\t", "NA", "N/A", "n/a", "nan", "NaN", "None", "none", "NULL", "null", "<NA>"]
MISSING += ["#N/A", "NaT", "#REF!", "?", ".", "\xa0", "\\N", "--", "missing", "undefined"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_rows_that_cannot_be_used(load, mistake):
    line, words = MISTAKES[mistake]
    text = PLAIN.replace("b.npy,y,p2", line)
    with pytest.raises(ValueError, match=rf"table\.csv, line 3: .*{words}"):
        load(text, **WITH_GROUPS)
    with pytest.warns(UserWarning, match=rf"skipped \d+ files? or rows?, .*line 3: .*{words}"):
        data = load(text, on_error="skip", **WITH_GROUPS)
    assert data.y.tolist() == ["x", "y", "x"]
    assert data.groups.tolist() == ["p1", "p1", "p3"]
    assert next(iter(data.skipped)).endswith("table.csv, line 3")


@pytest.mark.parametrize("text", MISSING)
@pytest.mark.parametrize("column", ["label", "patient", "part", "path"])
def test_missing_values(load, text, column):
    rows = [
        {"path": f"{c}.npy", "label": label, "patient": f"p{c}", "part": "train"}
        for c, label in zip("abcd", "xyxy", strict=True)
    ]
    rows[1][column] = text
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    options = {"group_column": "patient", "split_column": "part"}
    reason = "is empty" if not text.strip() else "stands for a missing value"
    with pytest.raises(ValueError, match=rf"line 3: the column '{column}' .*{reason}"):
        load(stream.getvalue(), **options)
    with pytest.warns(UserWarning, match=rf"line 3: the column '{column}' .*{reason}"):
        data = load(stream.getvalue(), on_error="skip", **options)
    assert data.y_train.tolist() == ["x", "x", "y"]


def test_missing_values_that_are_names(load):
    text = PLAIN.replace("x", "none").replace("p1", "NA").replace("p3", "-9")
    data = load(text, missing_values=[], **WITH_GROUPS)
    assert data.target_names == ["none", "y"]
    assert data.groups.tolist() == ["NA", "p2", "NA", "-9"]
    with pytest.raises(ValueError, match=r"line 5: the column 'patient' holds '-9'"):
        load(text, missing_values=["-9"], **WITH_GROUPS)
    for wrong in ("none", [None]):
        with pytest.raises(ParameterError, match=r"^missing_values must be None or a collection"):
            load(text, missing_values=wrong)


PARTS = {
    "train": ["train", "Train", "TRAIN", "training", " Training ", "tr", "trainset", "Train set"],
    "val": ["val", "valid", "Validation", "dev", "VAL"],
    "test": ["test", "Test", "testing", "TEST", "ts", "holdout", "hold-out"],
}


def test_parts_in_their_usual_spellings(tmp_path):
    pairs = [(part, value) for part, values in PARTS.items() for value in values]
    root = write_images(tmp_path, [f"{i}.npy" for i in range(2 * len(pairs))])
    lines = [
        f"{2 * i + k}.npy,{'xy'[k]},{value}" for i, (_, value) in enumerate(pairs) for k in (0, 1)
    ]
    (root / "t.csv").write_text("\n".join(["path,label,part", *lines]))
    data = load_image_folder(root, labels=root / "t.csv", split_column="part")
    assert [key for key in data if key.startswith("y")] == ["y_train", "y_val", "y_test"]
    for part, values in PARTS.items():
        assert len(data[f"y_{part}"]) == 2 * len(values)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("tarin", "Did you mean 'train'"),
        ("extra", "got 'extra'"),
        ("eval", "got 'eval'"),
        ("1", "got '1'"),
    ],
)
def test_values_that_are_not_a_part(load, value, words):
    text = f"path,label,part\na.npy,x,train\nb.npy,y,train\nc.npy,x,{value}\nd.npy,y,train\n"
    with pytest.raises(ValueError, match=rf"line 4: the column 'part' must hold .*{words}"):
        load(text, split_column="part")
    with pytest.warns(UserWarning, match="line 4"):
        data = load(text, split_column="part", on_error="skip")
    assert data.y_train.tolist() == ["x", "y", "y"]
    splits = {"train": "train", value: None}
    assert load(text, split_column="part", splits=splits).y_train.tolist() == ["x", "y", "y"]
    splits = {"train": "train", value: "val"}
    with pytest.warns(UserWarning, match="val has no image of the classes 'y'"):
        assert load(text, split_column="part", splits=splits).y_val.tolist() == ["x"]
    with pytest.raises(ValueError, match=r"the column 'part' must hold train; got"):
        load(text, split_column="part", splits={"train": "train"})


def test_a_split_that_is_not_asked_for_is_told(load, root, tmp_path):
    text = "path,label,set\na.npy,x,train\nb.npy,y,train\nc.npy,x,test\nd.npy,y,test\n"
    with pytest.warns(
        UserWarning, match="the column 'set' of the table holds test, train, which look"
    ):
        assert len(load(text).y) == 4
    assert len(load(text, splits={}).y) == 4
    for folder in ("Training", "Testing"):
        write_images(root, [f"{folder}/1.npy", f"{folder}/2.npy"])
    lines = [
        f"{folder}/{i}.npy,{'xy'[i - 1]}" for folder in ("Training", "Testing") for i in (1, 2)
    ]
    for name in "abcd":
        (root / f"{name}.npy").unlink()
    with pytest.warns(UserWarning, match="the paths lie in Testing, Training, which look"):
        load("\n".join(["path,label", *lines]))


def test_classes_of_the_parts_of_a_table(load):
    text = "path,label,part\na.npy,x,train\nb.npy,y,train\nc.npy,x,test\nd.npy,Y,test\n"
    with pytest.raises(
        ValueError, match=r"classes of test must be classes of train, 'x', 'y'; got 'Y'"
    ):
        load(text, split_column="part")


def test_files_under_several_names(load, root):
    (root / "link.npy").symlink_to(root / "b.npy")
    text = PLAIN + "link.npy,y,p2\n"
    with pytest.raises(ValueError, match=r"line 6: .*link\.npy is the same file as in .*line 3\."):
        load(text, **WITH_GROUPS)
    with pytest.warns(UserWarning, match="skipped 1 file or row,"):
        assert load(text, on_error="skip", **WITH_GROUPS).y.tolist() == ["x", "y", "y", "x"]
    text = PLAIN + "./b.npy,y,p9\n"
    with pytest.warns(UserWarning, match="skipped 2 files .*another label, group or split"):
        assert load(text, on_error="skip", **WITH_GROUPS).y.tolist() == ["x", "y", "x"]
    # The table may name the link, and then its file is listed.
    assert len(load(PLAIN.replace("b.npy", "link.npy"), **WITH_GROUPS).y) == 4


def test_absolute_paths_out_of_the_folder_are_told(load, root, tmp_path):
    write_images(tmp_path / "elsewhere", ["e.npy"])
    text = PLAIN + f"{tmp_path / 'elsewhere' / 'e.npy'},x,p9\n{root}/../images/a.npy,x,p1\n"
    text = text.replace("a.npy,x,p1\nb", "b")
    with pytest.warns(
        UserWarning, match=r"1 path of .*table\.csv is absolute and leads out.*e\.npy"
    ):
        data = load(text, **WITH_GROUPS)
    assert len(data.y) == 5


def test_names_that_are_spelt_nearly_alike(load):
    text = "path,label,patient\na.npy,Benign,p1\nb.npy,benign,P1\nc.npy,0,7\nd.npy,0.0,7.0\n"
    with (
        pytest.warns(UserWarning, match="classes are spelt nearly alike.*'0' and '0.0', 'Benign'"),
        pytest.warns(
            UserWarning, match="groups are spelt nearly alike.*'7' and '7.0', 'P1' and 'p1'"
        ),
    ):
        data = load(text, **WITH_GROUPS)
    assert len(data.target_names) == 4
    with pytest.warns(UserWarning, match=r"'e\\u0301' and '\\xe9'"):
        load("path,label\na.npy,é\nb.npy,e\u0301\nc.npy,é\nd.npy,e\u0301\n")
    # Numbers of many digits differ, which floats would not tell.
    load("path,label\na.npy,900000000000207008\nb.npy,900000000000207009\nc.npy,1\nd.npy,2\n")


TABLES = {
    "no first row": ("a.npy,x\nb.npy,y\n", r"path_column must be .*'a.npy', 'x'; got 'path'"),
    "empty": ("", "path_column must be a column.*which has no columns.*The file is empty"),
    "spaces": (" \n\n", "The file is empty"),
    "twice": ("path,label, label\na.npy,x,y\n", "one column of each name.*'label'"),
    "an open quote": (
        'path,label\na.npy,"x\nb.npy,y\n',
        "row in line 2 cannot be read: unexpected",
    ),
    "letters behind a quote": ('path,label\na.npy,"x"y\n', "line 2 cannot be read: ',' expected"),
    "NUL": ("path,label\na.npy,x\nb.npy,y\0\n", "Line 3 holds a NUL character"),
    "a huge field": (f'path,label\na.npy,"{"x" * 140_000}"\n', "line 2 .*field limit"),
    "no rows": ("path,label\n", "must hold images with labels"),
    "a spreadsheet": (b"PK\x03\x04\xff\xfe\x00", "UTF-8"),
    "another encoding": (b"path,label\na.npy,\xe9\n", "Line 2 cannot be read.*encoding='cp1252'"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_that_cannot_be_used(load, root, kind):
    text, words = TABLES[kind]
    if kind == "no rows":
        for name in "abcd":
            (root / f"{name}.npy").unlink()
    limit = csv.field_size_limit()
    with pytest.raises(ValueError, match=words) as error:
        load(text)
    assert "table.csv" in str(error.value) or str(root) in str(error.value)
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"group_column": "label"}, "^label_column must be another column than group_column"),
        ({"split_column": "path"}, "^path_column must be another column than split_column"),
        ({"label_column": 1}, "^label_column must be the name of a column; got 1"),
        ({"encoding": "klingon"}, "^encoding must be the name of an encoding; got 'klingon'"),
        ({"encoding": 8}, "^encoding must be the name of an encoding or None; got 8"),
        ({"splits": ["train"]}, "^splits must be None, or names mapped to"),
        ({"splits": {"a": "train"}}, "^splits must be None or {} without split_column"),
        ({"splits": {}, "split_column": "note"}, "^splits must be None or the parts of all values"),
    ],
)
def test_parameters_of_tables(load, options, words):
    with pytest.raises(ParameterError, match=words):
        load(PLAIN, **options)


# ---- random tables, against pandas

TEXTS = st.sampled_from(
    ["x", "y", "NA", "", " ", "nan", "0", "0.0", "p,1", "p;1", 'say "x"', "é", "line\nbreak", "x "]
    + ["none", "Train", "test", "train", "\t", "🙂", "'", "#", "\\"]
) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)


@pytest.mark.slow
@given(
    texts=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=4, max_size=4),
    delimiter=st.sampled_from(",;\t|"),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_random_tables_are_read_as_pandas_reads_them(
    tmp_path_factory, texts, delimiter, line_end, quoting
):
    root = tmp_path_factory.getbasetemp() / "random_tables"
    if not root.exists():
        write_images(root, ["a.npy", "b.npy", "c.npy", "d.npy"])
    table = root / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
        writer.writerow(["path", "label", "patient", "note"])
        writer.writerows([f"{c}.npy", *row] for c, row in zip("abcd", texts, strict=True))
    frame = pd.read_csv(table, sep=delimiter, dtype=str, skipinitialspace=True, engine="python")
    expected = {
        f"{row.path}": (row.label.strip(), row.patient.strip())
        for row in frame.itertuples()
        if str(row.label).strip() and str(row.patient).strip()
        if isinstance(row.label, str) and isinstance(row.patient, str)
    }
    data, error = _try(root, table, on_error="skip")
    if data is None:
        assert str(root) in error  # such as a single class
        return
    got = zip(data.X.paths, data.y.tolist(), data.groups.tolist(), strict=True)
    found = {os.path.basename(path): (label, group) for path, label, group in got}
    assert found.items() <= expected.items()
    # A line end within an unquoted text makes one row more.
    assert len(found) + sum("line" in place for place in data.skipped) >= 4
    # Rows that pandas takes: texts that are missing in another case or hold characters that no name
    # has, and short rows.
    words = ("missing", "control", "fields")
    reasons = [why for why in data.skipped.values() if any(word in why for word in words)]
    assert len(expected) - len(found) <= len(reasons)
    whole, error = _try(root, table, on_error="raise")
    if data.skipped:
        assert str(table) in error
    else:
        np.testing.assert_array_equal(whole.y, data.y)


def _try(root, table, **options):
    """Return the data and None, or None and an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return load_image_folder(root, labels=table, group_column="patient", **options), None
        except ValueError as error:
            return None, str(error)


@given(
    st.binary(max_size=300)
    | st.text(max_size=100).map(
        lambda text: f"path,patient,label\n{text}".encode("utf-8", "ignore")
    )
)
def test_random_bytes_are_an_error_that_names_the_table(tmp_path_factory, content):
    root = tmp_path_factory.getbasetemp() / "random_bytes"
    if not root.exists():
        write_images(root, ["a.npy", "b.npy"])
    table = root / "table.csv"
    table.write_bytes(content)
    for on_error in ("raise", "skip"):
        data, error = _try(root, table, on_error=on_error)
        assert data is None
        assert str(root) in error
