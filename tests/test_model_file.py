"""One file with tensors, a description and a card: it comes back, or there is an error."""

import copy
import hashlib
import json
import math
import os
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from skimbal.exceptions import ModelFileError
from skimbal.model_file import (
    ModelFile,
    from_bytes,
    from_plain,
    read_model_file,
    to_bytes,
    to_plain,
    write_model_file,
)
from tests.faults import Drive, full

TENSORS = {
    "conv": torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
    "half": torch.arange(5, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "mean": torch.tensor([[[1 / 3]]], dtype=torch.float64),
}
FILE = ModelFile({"class": "Tiny", "numbers": [1, 0.1]}, TENSORS, "# Card\n\nÄ |", "0.1.0")


def refuse(value):
    raise TypeError(f"no {value!r}")


def there_and_back(value):
    text = json.dumps(to_plain(value, refuse), allow_nan=False)
    return from_plain(json.loads(text), refuse)


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray | np.generic):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for (key, value), (other_key, other) in zip(found.items(), expected.items(), strict=True):
            assert_same(key, other_key)
            assert_same(value, other)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for value, other in zip(found, expected, strict=True):
            assert_same(value, other)
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(found)
    else:
        assert found == expected
        if isinstance(expected, float):
            assert math.copysign(1, found) == math.copysign(1, expected)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.integers(-(2**31), 2**31 - 1).map(np.int32)
    | st.floats(width=32).map(np.float32)
    | st.floats().map(np.float64)
    | st.booleans().map(np.bool_)
)
KEYS = st.text() | st.integers() | st.booleans() | st.sampled_from(["$int", "$", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
@example({"a": (1, [2.0, -0.0, math.nan, math.inf]), "$int": 2**70, "$tuple": ()})
@example({1: "a", False: "b"})
@example("\ud800")
def test_values_come_back_with_their_types(value):
    assert_same(there_and_back(value), value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.array([math.nan, math.inf, -0.0, 1 / 3]),
        np.array([0.1, 65504], dtype=np.float16),
        np.array(["a", "Ä|\n", ""], dtype="<U7"),
        np.array([b"a", b"\xff\x01"]),
        np.array(["a", 1, None, (1, 2)], dtype=object),
        np.array([True, False]),
        np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
        np.array([2**64 - 1], dtype=np.uint64),
        np.zeros((0, 3)),
    ],
    ids=lambda array: array.dtype.str,
)
def test_arrays_come_back(array):
    assert_same(there_and_back(array), array)


def test_paths_come_back():
    assert there_and_back({"folder": Path("a") / "b"}) == {"folder": Path("a/b")}


def test_other_values_go_to_their_functions():
    class Own:
        pass

    own = Own()
    plain = to_plain([own, 1], lambda value: {"named": type(value).__name__})
    assert from_plain(plain, lambda content: content) == [{"named": "Own"}, 1]
    for value in (own, {1, 2}, np.array([1 + 2j]), 1j, b"a", np.longdouble(1)):
        with pytest.raises(TypeError, match=r"^no "):
            to_plain(value, refuse)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"$unknown": 1}, "no values of the kind"),
        ({"$array": ["<U90000000", [4], ["a", "b", "c", "d"]]}, "too large"),
        ({"$array": ["<f8", [2**40], []]}, "cannot reshape"),
        ({"$array": ["|V8", [1], ["a"]]}, "no arrays of the dtype"),
        ({"$array": ["object; import os", [1], [1]]}, "no arrays of the dtype"),
        ({"$float": "1e5"}, "no values of the kind"),
        ({"$int": "one"}, "invalid literal"),
        ({"$array": ["<U1", [2], ["benign", "b"]]}, "'<U1' are something else"),
        ({"$array": ["<i8", [1], [1.5]]}, "something else"),
        ({"$array": ["|b1", [1], ["no"]]}, "something else"),
        ({"$array": ["<f8", [1], [True]]}, "something else"),
    ],
)
def test_values_of_another_form_are_refused(plain, words):
    with pytest.raises(ValueError, match=words):
        from_plain(plain, refuse)


def test_a_file_comes_back(tmp_path):
    path = tmp_path / "model.skimbal"
    write_model_file(path, FILE)
    found = read_model_file(str(path))
    assert (found.model, found.card, found.version) == (FILE.model, FILE.card, FILE.version)
    assert found.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)
    # Any program that reads safetensors reads the weights.
    assert torch.equal(safetensors.torch.load_file(path)["conv"], TENSORS["conv"])


def test_bytes_that_are_not_text_do_not_make_a_file_that_cannot_be_read():
    card = "| caf\udce9 \ud800 | 8 |"
    found = from_bytes(to_bytes(ModelFile({"class": card}, {}, card, "1")), "f")
    assert found.card == "| caf\\udce9 \\ud800 | 8 |"
    assert found.model == {"class": card}


def test_two_names_of_one_tensor_are_two_tensors():
    tensor = torch.ones(3)
    found = from_bytes(to_bytes(ModelFile({}, {"a": tensor, "b": tensor}, "", "1")), "f").tensors
    assert torch.equal(found["a"], found["b"])


def test_every_cut_is_an_error():
    data = to_bytes(FILE)
    for size in range(len(data)):
        with pytest.raises(ModelFileError, match="'f'"):
            from_bytes(data[:size], "f")
    with pytest.raises(ModelFileError, match="checksum"):
        from_bytes(data + b"\0", "f")


def test_every_flipped_bit_is_an_error():
    data = bytearray(to_bytes(FILE))
    for place in range(len(data)):
        for bit in range(8):
            data[place] ^= 1 << bit
            with pytest.raises(ModelFileError):
                from_bytes(bytes(data), "f")
            data[place] ^= 1 << bit


@given(st.data())
def test_other_damage_is_an_error(data):
    whole = to_bytes(FILE)
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    put = data.draw(st.binary(max_size=40))
    damaged = whole[:start] + put + whole[end:]
    if damaged == whole:
        return
    with pytest.raises(ModelFileError):
        from_bytes(damaged, "f")


def sealed(header, data=b""):
    """Return a file with another header, and the checksum that belongs to it."""

    def canonical(metadata):
        parts = {**header, "__metadata__": metadata}
        text = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
        return text + b" " * (-len(text) % 8)

    metadata = {k: v for k, v in header["__metadata__"].items() if k != "sha256"}
    total = hashlib.sha256(canonical(metadata) + data).hexdigest()
    text = canonical({**metadata, "sha256": total})
    return struct.pack("<Q", len(text)) + text + data


def header_of(data):
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def test_a_later_version_names_its_writer():
    header, data = header_of(to_bytes(FILE))
    assert from_bytes(sealed(header, data), "f").card == FILE.card
    header["__metadata__"].update(format_version="2", skimbal_version="3.1")
    with pytest.raises(
        ModelFileError, match=r"version '2', and was written by skimbal 3\.1"
    ) as got:
        from_bytes(sealed(header, data), "f")
    assert "later version" in got.value.remedy


def test_sealed_nonsense_is_an_error():
    header, data = header_of(to_bytes(FILE))
    for change in (
        lambda h: h["__metadata__"].update(model="{"),
        lambda h: h["__metadata__"].update(model="[" * 100_000),
        lambda h: h["__metadata__"].pop("model"),
        lambda h: h["conv"].update(data_offsets=[0, 10**12]),
        lambda h: h["conv"].update(shape=[10**9, 10**9]),
        lambda h: h["conv"].update(dtype="F7"),
        lambda h: h.update(conv=3),
    ):
        other = copy.deepcopy(header)
        change(other)
        with pytest.raises(ModelFileError, match="damaged"):
            from_bytes(sealed(other, data), "f")


@pytest.mark.parametrize("size", [0, 1, 2**63, 2**64 - 1, 10**6])
def test_a_header_of_any_size_is_an_error(size):
    with pytest.raises(ModelFileError, match=r"damaged|another program"):
        from_bytes(struct.pack("<Q", size) + b'{"a": 1}', "f")


def test_a_header_that_is_too_long_is_not_parsed():
    text = b'{"a": "' + bytes(2**26) + b'"}'
    with pytest.raises(ModelFileError, match="header is longer than"):
        from_bytes(struct.pack("<Q", len(text)) + text, "f")


def test_a_foreign_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "scan.nii"
    with path.open("wb") as file:
        file.write(b"\x5c\x01\x00\x00" + bytes(20))
        file.truncate(2**40)  # a hole, larger than the memory
    with pytest.raises(ModelFileError, match="another program"):
        read_model_file(path)
    if os.path.exists("/dev/zero"):
        with pytest.raises(ModelFileError, match="empty"):
            read_model_file("/dev/zero")


def test_deep_nesting_in_the_header_is_an_error():
    text = b'{"a":' + b"[" * 200_000
    with pytest.raises(ModelFileError, match="header cannot be read"):
        from_bytes(struct.pack("<Q", len(text)) + text, "f")


def test_other_files_are_named(tmp_path):
    path = tmp_path / "file"

    def reason(data):
        path.write_bytes(data)
        with pytest.raises(ModelFileError) as got:
            read_model_file(path)
        assert str(path) in str(got.value)
        assert pickle.loads(pickle.dumps(got.value)).args == got.value.args
        return got.value.reason

    assert reason(b"") == "It is empty."
    assert "PNG" in reason(b"\x89PNG\r\n\x1a\n" + bytes(20))
    assert "pickle" in reason(pickle.dumps({"a": [1] * 10}))
    torch.save(TENSORS, tmp_path / "weights.pt")
    assert "zip archive" in reason((tmp_path / "weights.pt").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "b")
    assert "zip archive" in reason((tmp_path / "a.zip").read_bytes())
    assert "another program" in reason(safetensors.torch.save({"a": torch.ones(2)}))
    assert "another program" in reason(safetensors.torch.save({"a": torch.ones(2)}, {"x": "y"}))
    assert "another program" in reason(b"file,label\n" * 10)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_model_file(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        read_model_file(tmp_path)
    with pytest.raises(IsADirectoryError, match="must be a file"):
        write_model_file(tmp_path, FILE)
    with pytest.raises(FileNotFoundError, match=r"folder that exists; got .*model"):
        write_model_file(tmp_path / "no" / "model", FILE)


def test_a_link_stays_a_link(tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(tmp_path / "first")
    for version in ("1", "2"):
        write_model_file(link, ModelFile({}, {}, "", version))
        assert link.is_symlink()
        assert read_model_file(tmp_path / "first").version == version


def test_a_failure_to_write_leaves_the_file_before(tmp_path):
    path = tmp_path / "model.skimbal"
    write_model_file(path, FILE)
    before = path.read_bytes()
    other = ModelFile({}, {}, "other", "1")
    with Drive(tmp_path).installed() as drive:
        write_model_file(tmp_path / "twin", other)
    for at in range(drive.seen.index("replace")):
        with Drive(tmp_path, full, at).installed(), suppress(OSError):
            write_model_file(path, other)
            assert read_model_file(path).card == "other"
            write_model_file(path, FILE)
    with (
        Drive(tmp_path, full, drive.seen.index("write")).installed(),
        pytest.raises(OSError, match=r"No space left.*model\.skimbal"),
    ):
        write_model_file(path, other)
    (tmp_path / "twin").unlink()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.skimbal"]
    write_model_file(path, other)
    assert read_model_file(path).card == "other"
