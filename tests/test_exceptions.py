"""Tests of the errors of the package."""

import copy
import pickle

import joblib
import pytest

from skimbal.exceptions import ParameterError, import_optional, warn_caller


@pytest.mark.parametrize("got", [3, "text", (number for number in ()), lambda: 0], ids=str)
def test_an_error_arrives_from_another_process(got):
    error = ParameterError("lr", "a number above 0", got, "Set lr=0.1.")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(other) == str(error)
        parts = other.parameter, other.expected, repr(other.got), other.remedy
        assert parts == ("lr", "a number above 0", repr(got), "Set lr=0.1.")


def test_a_package_that_cannot_be_imported_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_extension.py").write_text("raise RuntimeError('built for another torch')")
    monkeypatch.syspath_prepend(tmp_path)
    match = r'installed .*built for another torch.*pip install --upgrade "broken_extension"'
    with pytest.raises(ImportError, match=match):
        import_optional("broken_extension", "ImageFiles", "io")


def test_a_missing_package_is_named_with_the_versions_that_work(monkeypatch):
    declared = ['absent-reader>=3; extra == "io"', 'absent_reader>=2; extra == "test"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: declared)
    with pytest.raises(ImportError) as error:
        import_optional("absent_reader.pixels", "ImageFiles", "io", beside=("numpy", "absent.b"))
    assert str(error.value) == (
        "ImageFiles needs absent_reader, which is missing. Run pip install "
        '"absent-reader>=3" "absent.b", or in a clone of skimbal pip install -e ".[io]".'
    )


def test_a_missing_package_of_a_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "lacking.py").write_text("import absent_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    match = r'lacking, which is installed and needs absent_dependency.*install "absent_dependency"'
    with pytest.raises(ImportError, match=match):
        import_optional("lacking", "ImageFiles", "io")


def test_a_torchvision_for_another_torch_is_named(tmp_path, monkeypatch):
    text = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "old_timm.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"Install both from the same index.*--index-url"):
        import_optional("old_timm", "Pretrained", "pretrained")


def test_a_warning_points_at_the_line_of_the_user():
    frames = {"__name__": "skimbal.inner", "warn_caller": warn_caller}
    exec("def inner():\n    warn_caller('full', RuntimeWarning)\n", frames)
    exec("def outer():\n    inner()\n", frames | {"__name__": "skorch.net"}, frames)
    of_search = joblib.Parallel(n_jobs=1)
    for call in (
        frames["inner"],
        lambda: warn_caller("full", RuntimeWarning),
        lambda: of_search([joblib.delayed(frames["inner"])()]),
    ):
        with pytest.warns(RuntimeWarning, match="full") as caught:
            call()
        assert caught[0].filename == __file__
