"""The form of the images of a fit, and its way through JSON."""

import json

import numpy as np
import pytest

from skimbal.exceptions import ParameterError
from skimbal.images import FileForm, ImageFiles, InputForm, PixelStatistics

PIXELS = PixelStatistics(
    least=(0.0, -5.5),
    greatest=(255.0, 7.0),
    low=(1.0, -5.0),
    high=(250.0, 6.5),
    spread=(90.0, 2.0),
    n_levels=99,
    is_whole=False,
    negative_share=0.25,
    flat_share=(0.0, 0.5),
)


@pytest.fixture
def paths(tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.full((9, 8), i, np.uint8))
    return [str(tmp_path / f"{i}.npy") for i in range(2)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": np.int64(6), "intensity": np.array([0, 100])},
        {"size": (6, 7), "resize": "crop", "intensity": "percentiles"},
        {"channels": np.int32(1), "channel_axis": None, "max_pixels": 10**6},
        {"transform": np.abs},
    ],
)
def test_a_form_comes_back_from_json(paths, options):
    files = FileForm.of(ImageFiles(paths, **options))
    form = InputForm((1, 9, 8), ("h", "w"), "uint8", True, "numbers", files, PIXELS)
    back = InputForm.from_dict(json.loads(json.dumps(form.to_dict())))
    assert back == form
    if not files.functions:
        again = back.files.read(paths)
        assert again.options == ImageFiles(paths, **options).options


def test_a_form_without_files_comes_back_from_json():
    form = InputForm((1, 9), ("h", "w"), "float64", False)
    assert InputForm.from_dict(json.loads(json.dumps(form.to_dict()))) == form


@pytest.mark.parametrize("change", [lambda d: d.pop("scale"), lambda d: d.update(strange=1)])
def test_names_of_another_version_are_refused(change):
    values = InputForm((1, 9), ("h", "w"), "float64", False).to_dict()
    change(values)
    with pytest.raises(ParameterError, match="must be a dict with the keys shape, axes, dtype"):
        InputForm.from_dict(values)


def test_a_form_cannot_be_changed():
    form = InputForm((1, 9), ("h", "w"), "float64", False)
    with pytest.raises(AttributeError):
        form.scale = "other"
