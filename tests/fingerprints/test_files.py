"""Files that code names count with their contents."""

import os

import pytest

from skimbal.fingerprints import code_digest
from skimbal.fingerprints.files import Mentions, content_of, folder_content
from tests.fingerprints.test_code import load


def test_contents_count_whatever_size_and_time_are(tmp_path):
    path = tmp_path / "a.txt"
    found = set()
    for text in ("one", "two", "two"):
        path.write_text(text)
        os.utime(path, ns=(10**18, 10**18))
        found.add(content_of(str(path)))
    assert len(found) == 2
    os.utime(path)
    assert content_of(str(path)) in found
    for name in ("", str(tmp_path), str(tmp_path / "none"), "a\0b", "x" * 5000):
        assert content_of(name) is None


def test_an_edit_within_a_step_of_the_clock_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("one")
    status = os.stat(path)
    # The clock of a drive that counts in long steps, so that an edit leaves all times.
    monkeypatch.setattr(os, "fstat", lambda handle: status)
    first = content_of(str(path))
    path.write_text("two")
    assert content_of(str(path)) != first


def test_folders_count_with_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("1")
    first = folder_content(str(tmp_path))
    (tmp_path / "a" / "x.txt").rename(tmp_path / "a" / "y.txt")
    assert folder_content(str(tmp_path)) != first


def test_files_are_found_by_texts_that_name_a_folder_and_a_file(tmp_path):
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "y.txt"
    file.write_text("1")
    for texts in (
        {str(tmp_path), "a", "y.txt", "none"},
        {str(tmp_path), "/a/y.txt"},
        {str(tmp_path / "a"), "y.txt"},
        {str(file), "y.txt"},
    ):
        mentions = Mentions()
        mentions.texts |= texts
        assert set(mentions.files()) == {str(file)}
    mentions = Mentions()
    mentions.folders.add(str(tmp_path / "a"))
    assert set(mentions.files()) == set()
    mentions.texts.add("y.txt")
    assert set(mentions.files()) == {str(file)}


READING = {
    "a global": "PATH = {path!r}\ndef reader(x):\n    return open(PATH).read()",
    "a path": "import pathlib\nP = pathlib.Path({path!r})\ndef reader(x):\n    P.read_text()",
    "a text": "def reader(x):\n    return open({path!r}).read()",
    "a default": "def reader(x, path={path!r}):\n    return open(path).read()",
    "a format": "D = {folder!r}\ndef reader(x):\n    return open(f'{{D}}/w.txt').read()",
    "a sum": "D = {folder!r}\ndef reader(x):\n    return open(D + '/w.txt').read()",
    "a join": "import os\nD = {folder!r}\ndef reader(x):\n    return len(os.path.join(D, 'w.txt'))",
    "an attribute": "class R:\n    def __init__(self):\n        self.path = {path!r}\n"
    "    def __call__(self, x):\n        return open(self.path).read()\nreader = R()",
    "a helper": "import os\ndef read(folder, name):\n"
    "    return open(os.path.join(folder, name)).read()\n"
    "D, N = {folder!r}, 'w.txt'\ndef reader(x):\n    return read(D, N)['w']",
    "an attribute of a class": "class R:\n    home = {folder!r}\n    def __call__(self, x):\n"
    "        return open(self.home + '/w.txt').read()\nreader = R()",
    "an entry": "D = dict(root={folder!r})\n"
    "def reader(x):\n    return open(D['root'] + '/w.txt').read()",
    "a parameter": "import functools\n"
    "def read(folder, x):\n    return open(folder + '/w.txt').read()\n"
    "reader = functools.partial(read, {folder!r})",
    "a closure": "def make(path):\n    return lambda x: open(path).read()\nreader = make({path!r})",
}
WRITING = {
    "a mode": "P = {path!r}\ndef reader(x):\n    with open(P, 'a') as f:\n        f.write('x')",
    "a named mode": "PATH = {path!r}\ndef reader(x):\n    open(PATH, mode='w').write('x')",
    "a path": "import pathlib\nP = pathlib.Path({path!r})\ndef reader(x):\n    P.write_text('x')",
    "a text": "def reader(x):\n    open({path!r}, 'wb').write(b'x')",
    "an array": "import numpy as np\nP = {path!r}\ndef reader(x):\n    np.save(P, x)",
    "a default": "def reader(x, path={path!r}):\n    open(path, 'a').write('x')",
    "an attribute": "class R:\n    def __init__(self, path):\n        self.path = path\n"
    "    def __call__(self, x):\n        open(self.path, 'a').write('x')\nreader = R({path!r})",
}


@pytest.mark.parametrize(
    ("source", "is_other"),
    [(source, True) for source in READING.values()]
    + [(source, False) for source in WRITING.values()],
    ids=[*(f"reads {name}" for name in READING), *(f"writes {name}" for name in WRITING)],
)
def test_files_that_are_read_count_and_files_that_are_written_do_not(source, is_other, tmp_path):
    path = tmp_path / "w.txt"
    digests = []
    for text in ("1", "2"):
        path.write_text(text)
        module = load(source.format(path=str(path), folder=str(tmp_path)))
        digests.append(code_digest(module.reader, "reader"))
    assert (digests[0] != digests[1]) == is_other
