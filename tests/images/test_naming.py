"""Errors, warnings and logs about a file name it."""

import logging
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from skimbal.images import ImageFiles
from skimbal.images._naming import naming_file
from tests.images.data import dicom, save_picture


def test_warnings_of_libraries_name_the_file(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a text that is cut"
    path = save_picture(tmp_path / "a.jpg", np.zeros((6, 5), np.uint8), exif=exif)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\0\0\0\x13\0\0\0", b"\0\0\xff\x13\0\0\0"))
    assert path.read_bytes() != data
    with pytest.warns(UserWarning, match=rf"{path}: Tag data larger than file"):
        ImageFiles([path])


def test_logs_of_libraries_name_the_file(tmp_path, caplog):
    dataset = dicom()
    path = tmp_path / "a.dcm"
    dataset.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"x" * 26))
    with pytest.warns(UserWarning, match=r"a\.dcm: Invalid value for VR UI"):
        ImageFiles([path])
    assert caplog.messages
    assert all(text.startswith(f"{path}: ") for text in caplog.messages)
    caplog.clear()
    logging.getLogger("pydicom").warning("later")
    assert caplog.messages == ["later"]


def test_threads_keep_their_own_warnings_and_all_is_as_before():
    barrier = threading.Barrier(2)

    def read(name):
        with naming_file(name):
            barrier.wait()
            warnings.warn("odd", UserWarning, stacklevel=1)
            barrier.wait()

    shown = warnings.showwarning
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=read, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        warnings.warn("plain", UserWarning, stacklevel=1)
    assert sorted(str(item.message) for item in caught) == ["a: odd", "b: odd", "plain"]
    assert all(item.category is UserWarning for item in caught)
    assert warnings.showwarning is shown


def test_a_function_that_shows_warnings_is_kept(monkeypatch):
    said = []

    def show(message, category, *args):
        said.append((str(message), category))

    monkeypatch.setattr(warnings, "showwarning", show)
    warnings.simplefilter("always")
    with naming_file("a"):
        warnings.warn("odd", RuntimeWarning, stacklevel=1)
    assert warnings.showwarning is show
    assert said == [("a: odd", RuntimeWarning)]
