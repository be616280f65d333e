"""Packages have facts that change when they are installed anew."""

import base64
import hashlib
import os
import sys
import threading

import numpy as np

from skimbal.fingerprints import installed_version, package_version, source_digest


def test_installed_packages_have_a_version():
    assert np.__version__ in installed_version(np.__file__)
    assert installed_version(os.__file__) == sys.version
    assert installed_version(threading.__file__) == sys.version
    assert installed_version(__file__) is None
    assert installed_version(None) is None


def test_a_reinstalled_package_of_the_same_version_has_another_digest(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    (site / "labcode").mkdir(parents=True)
    (site / "labcode-1.0.dist-info").mkdir()
    (site / "labcode" / "__init__.py").write_text("def load(x):\n    return x\n")
    (site / "labcode-1.0.dist-info" / "METADATA").write_text("Name: labcode\nVersion: 1.0\n")
    record = site / "labcode-1.0.dist-info" / "RECORD"
    monkeypatch.syspath_prepend(str(site))
    found = set()
    for checksum in ("a", "a", "b"):
        record.write_text(f"labcode/__init__.py,sha256={checksum},1\nlabcode/x.pyc,,\n")
        installed_version.cache_clear()
        package_version.cache_clear()
        found.add(installed_version(str(site / "labcode" / "__init__.py")))
    assert len(found) == 2
    assert all(text.startswith("labcode 1.0") for text in found)


def test_sources_have_a_digest(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = source_digest(str(tmp_path))
    (tmp_path / "notes.txt").write_text("1")
    assert source_digest(str(tmp_path)) == first
    (tmp_path / "a.py").write_text("2")
    assert source_digest(str(tmp_path)) != first


def test_a_file_that_was_edited_after_its_installation_counts(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    folder, info = site / "labcode", site / "labcode-1.0.dist-info"
    folder.mkdir(parents=True)
    info.mkdir()
    file, record = folder / "__init__.py", info / "RECORD"
    file.write_text("A = 1\n")
    (info / "METADATA").write_text("Name: labcode\nVersion: 1.0\n")
    checksum = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).decode()
    line = f"labcode/__init__.py,sha256={checksum.rstrip('=')},6\n"
    record.write_text(line + "labcode-1.0.dist-info/RECORD,,\n")
    monkeypatch.syspath_prepend(str(site))
    found = []
    now = record.stat().st_mtime
    for text, time in (("A = 1\n", now), ("A = 1\n", now + 60), ("A = 2\n", now + 60)):
        file.write_text(text)
        os.utime(file, (time, time))
        package_version.cache_clear()
        found.append(package_version("labcode"))
    assert found[0] == found[1] != found[2]
