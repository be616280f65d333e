"""Data that the tests of commands share."""

from pathlib import Path

import numpy as np
import pytest

from tests.commands.data import Record, StubClassifier, images


@pytest.fixture
def fits(monkeypatch):
    """What a stub in the place of the classifier was fitted with: (classifier, X, y)."""
    monkeypatch.setattr(StubClassifier, "fits", Record(), raising=False)
    monkeypatch.setattr("skimbal.commands.classifier.CNN2DClassifier", StubClassifier)
    return StubClassifier.fits


@pytest.fixture
def never(monkeypatch):
    """No fit is begun."""
    monkeypatch.setattr(
        "skimbal.commands.classifier.CNN2DClassifier.fit", lambda *_: pytest.fail("a fit was begun")
    )


@pytest.fixture
def ended(monkeypatch, fits):
    """Return a function that lets an exception end a fit, the third unless told otherwise."""

    def end(error, at=3):
        fit = StubClassifier.fit

        def fit_or_end(self, X, y):
            if len(fits) == at - 1:
                raise error
            return fit(self, X, y)

        monkeypatch.setattr(StubClassifier, "fit", fit_or_end)

    return end


@pytest.fixture
def make_npz(tmp_path):
    def make(name="my.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return str(tmp_path / name)

    return make


@pytest.fixture
def own(make_npz, rng):
    """A file without splits: 30 benign and 10 malignant images of 20 patients."""
    y = np.array([0, 0, 1, 0] * 10)
    return make_npz(
        X=images(y, rng), y=np.array(["benign", "malignant"])[y], patient=np.arange(40) // 2
    )


@pytest.fixture
def split(make_npz, rng):
    """Return a function that makes a file with splits of 20 rows, with a site for each."""

    def make(train=range(20), val=range(20, 40), test=range(40, 60), **replaced):
        arrays = {}
        for name, sites in (("train", train), ("val", val), ("test", test)):
            y = np.array([0, 0, 1, 0] * 5)
            arrays |= {f"{name}_images": images(y, rng), f"{name}_labels": y}
            arrays |= {f"{name}_site": np.array(sites)}
        arrays |= replaced
        arrays = {name: array for name, array in arrays.items() if array is not None}
        return make_npz("splits.npz", **arrays)

    return make


@pytest.fixture
def folder(tmp_path, rng):
    """A folder of 40 pictures of several sizes, and a table: 20 patients, 10 of them per split."""
    (tmp_path / "images").mkdir()
    y = np.array([0, 0, 1, 1] * 10)
    lines = ["path,grade,patient,part"]
    for i, image in enumerate(images(y, rng)):
        np.save(tmp_path / "images" / f"{i:02}.npy", np.pad(image, i % 2))
        part = ("train", "train", "val", "test")[i % 2 * 2 + i // 20]
        lines.append(f"{i:02}.npy,{('low', 'high')[y[i]]},p{i // 4},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "images")


@pytest.fixture
def table(folder):
    """The options that name the table and its columns."""
    path = str(Path(folder).parent / "labels.csv")
    return ["--labels", path, "--label-column", "grade", "--group-column", "patient"]


@pytest.fixture
def class_folders(tmp_path, rng):
    """Return a function that makes a folder for each class in each of some parts."""

    def make(*parts, shape=(8, 8), n=4):
        root = tmp_path / "classes"
        for part in parts:
            for k, label in enumerate(("benign", "malignant")):
                (root / part / label).mkdir(parents=True)
                for i in range(n):
                    image = rng.integers(0, 100, shape, dtype=np.uint8) + np.uint8(100 * k)
                    np.save(root / part / label / f"{i}.npy", image)
        return str(root)

    return make
