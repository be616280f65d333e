"""Damage of any kind to a small file is noticed."""

import hashlib
import json
import os
import tracemalloc

import pytest

from skimbal.study.sealed import DamagedError, is_sealed, read_sealed, seal

FIELDS = {"name": "ce+½*mcc \ud800", "scores": {"log_loss": 0.1, "none": None}, "n": [1, [2]]}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("fields", [FIELDS, {"a": float("inf")}, {"a": 10**300}])
def test_fields_come_back(tmp_path, fields, indent):
    path = tmp_path / "a.json"
    path.write_bytes(seal(fields, indent=indent))
    assert read_sealed(path) == fields
    assert is_sealed(path)
    others = json.loads(path.read_text())  # the whole is JSON
    assert {name: others[name] for name in fields} == fields


@pytest.mark.slow
def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path):
    path, data = tmp_path / "a.json", seal({"scores": {"log_loss": 0.1}})
    for at in range(len(data)):
        for bit in (0, 3, 7):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(DamagedError):
                read_sealed(path)
        path.write_bytes(data[:at])
        with pytest.raises(DamagedError):
            read_sealed(path)
    path.write_bytes(data + b"\n")
    with pytest.raises(DamagedError, match=f"it has {len(data) + 1} bytes instead of {len(data)}"):
        read_sealed(path)


def sealed_text(text):
    """Put a right checksum on a text that is not of this program."""
    rest = text.encode()
    checksum = hashlib.blake2b(rest, digest_size=16).hexdigest()
    return f'{{"checksum": "{checksum}", "bytes": {len(rest)},\n'.encode() + rest


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"{}", "no checksum"),
        (b"\xe9t\xe9", "no checksum"),
        (b"[" * 100_000, "no checksum"),
        (bytes(1000), "no checksum"),
        (sealed_text("nonsense"), "not JSON"),
        (sealed_text('"a": ' + "[" * 100_000), "nested too deeply"),
        (sealed_text('"a": "\xe9"}'), "not JSON"),
        (sealed_text('"a": 1'), "not JSON"),
    ],
)
def test_files_of_other_programs_are_damaged(tmp_path, data, reason):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DamagedError, match=reason):
        read_sealed(tmp_path / "a.json")


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_sealed(tmp_path / "absent")
    assert not is_sealed(tmp_path / "absent")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        read_sealed(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DamagedError, match="it is empty"):
        read_sealed(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        read_sealed(tmp_path / "loop")


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(seal(FIELDS))
    os.truncate(path, 2**33)
    tracemalloc.start()
    with pytest.raises(DamagedError, match="bytes instead of"):
        read_sealed(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
