"""The real images that come with the package."""

import configparser
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from skimbal.datasets import inspect_data, load_medmnist_sample
from tests.datasets import write_samples
from tests.datasets.data import KEYS, SPLITS, check_one_line

NAMES = list(write_samples.SOURCES)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_stated_counts(name):
    data = load_medmnist_sample(name)
    assert set(data) == KEYS
    assert data.ndim == (3 if name.endswith("3d") else 2)
    assert data.name == f"{name}_sample"
    assert data.license == "CC BY 4.0"
    assert "Yang" in data.citation
    assert data.origin.code() == f"load_medmnist_sample({name!r})"
    readme = Path(data.filename).with_name("README.md").read_text("utf-8")
    for split in SPLITS:
        counts = write_samples.SOURCES[name].counts[split]
        assert data[f"X_{split}"].shape == (sum(counts), *[28] * data.ndim)
        assert data[f"X_{split}"].dtype == np.uint8
        np.testing.assert_array_equal(np.bincount(data[f"y_{split}"]), counts)
        row = next(line for line in readme.splitlines() if line.startswith(f"| {split} "))
        assert row.split("|")[2 + NAMES.index(name)].strip() == f"{counts[0]} and {counts[1]}"


@pytest.mark.parametrize("name", NAMES)
def test_no_image_of_a_sample_occurs_twice(name):
    data = load_medmnist_sample(name)
    images = [image.tobytes() for split in SPLITS for image in data[f"X_{split}"]]
    assert len(set(images)) == len(images) == 540
    assert re.search("copies +none", str(inspect_data(data)))


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_the_stated_rows_of_the_files(name, data_dir):
    drawn = write_samples.draw(name, data_dir)
    with np.load(write_samples.SAMPLES / f"{name}.npz") as kept:
        assert set(kept) == set(drawn)
        for key in kept:
            assert kept[key].dtype == drawn[key].dtype
            np.testing.assert_array_equal(kept[key], drawn[key])


def test_a_file_that_was_changed_is_no_source(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "vesselmnist3d.npz").write_bytes(b"other")
    with pytest.raises(ValueError, match="must have the md5 sum b41f"):
        write_samples.draw("vesselmnist3d", tmp_path)


def test_first_rows_leave_out_copies():
    images = np.array([[1], [1], [2], [3], [4]])
    labels = np.array([[0], [0], [1], [0], [1]])
    seen = {np.array([2]).tobytes()}
    np.testing.assert_array_equal(write_samples.first_rows(images, labels, (2, 1), seen), [0, 3, 4])
    with pytest.raises(ValueError, match="too few"):
        write_samples.first_rows(images, labels, (1, 0), seen)


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="name must be") as error:
        load_medmnist_sample("bloodmnist")
    check_one_line(error, "'pneumoniamnist' or 'vesselmnist3d'", "'bloodmnist'", "load_medmnist")


def test_licence_and_source_lie_beside_the_images():
    folder = write_samples.SAMPLES
    assert (folder / "LICENSE.txt").read_text("utf-8").startswith("Attribution 4.0 International")
    readme = (folder / "README.md").read_text("utf-8")
    for source in write_samples.SOURCES.values():
        assert source.md5 in readme
    assert sum(path.stat().st_size for path in folder.iterdir()) < 550_000
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "BSD-3-Clause AND CC-BY-4.0"
    for file in project["license-files"]:
        assert (ROOT / file).is_file()


def test_every_data_file_of_the_package_is_declared():
    # Only declared files are in a wheel; .ci/run looks into a wheel, too.
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    declared = set()
    for package, patterns in config["options.package_data"].items():
        folder = ROOT / package.replace(".", "/")
        for pattern in re.split(r"[,\s]+", patterns.strip()):
            found = set(folder.glob(pattern))
            assert found, f"{package}: {pattern} is no file"
            declared |= found
    files = {path for path in (ROOT / "skimbal").rglob("*") if path.is_file()}
    assert {path for path in files if path.suffix not in (".py", ".pyc")} == declared
