"""Errors, warnings and logs about a file name it."""

import logging
import os
import threading
import warnings
from contextlib import nullcontext

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

    before = state_of_warnings()
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
    assert state_of_warnings() == before


def state_of_warnings():
    """Return all of the module of warnings that a program can replace."""
    return {
        name: value for name, value in vars(warnings).items() if callable(value)
    }, warnings.filters[:]


@pytest.mark.parametrize("record", [False, True])
def test_catching_in_another_thread_while_files_are_read_leaves_no_trace(record):
    before = state_of_warnings()
    for enter, leave in ((0, 1), (1, 2), (0, 2), (1, 1)):  # before, while and after a file is read
        context = warnings.catch_warnings(record=record)
        steps = [
            [context.__enter__] * (enter == k) + [lambda c=context: c.__exit__()] * (leave == k)
            for k in range(3)
        ]
        for k in range(3):
            with naming_file("a") if k == 1 else nullcontext():
                for step in steps[k]:
                    thread = threading.Thread(target=step)
                    thread.start()
                    thread.join()
        assert state_of_warnings() == before, (enter, leave)


def test_the_name_is_in_warnings_that_another_thread_records():
    with naming_file("a"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("odd", UserWarning, stacklevel=1)
    assert [str(item.message) for item in caught] == ["a: odd"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_is_forked_while_files_are_read():
    before = state_of_warnings()
    with naming_file("a"):
        child = os.fork()
        if child == 0:
            is_good = state_of_warnings() == before
            with naming_file("b"):
                pass
            os._exit(0 if is_good and state_of_warnings() == before else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert state_of_warnings() == before
