"""The examples of the page on image files run, on small files."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.images.dicom_data import save_slices

PAGE = (Path(__file__).parents[1] / "docs" / "image_files.rst").read_text("utf-8")
SMALLER = {
    "(random_state=0)": "(random_state=0, module='small', max_epochs=1, augment=None)",
    "size=224": "size=24",
    "size=(48, 224, 224)": "size=(4, 8, 8)",
    "size=96": "size=8",
}
CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}


def run_example(title):
    """Run the first Python code below a title, and return its names."""
    code = re.search(rf"\n{title}\n-+\n[\s\S]*?:: python\n\n((?:    .*\n|\n)+)", PAGE)[1]
    code = re.sub(r"^    ", "", code, flags=re.MULTILINE)
    for large, small in SMALLER.items():
        code = code.replace(large, small)
    names = {"__name__": "page"}
    exec(compile(code, "image_files.rst", "exec"), names)
    return names


@pytest.fixture
def rng(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return np.random.default_rng(0)


def test_fundus_photographs(rng, capsys):
    for i in range(24):
        folder = Path("fundus", ("none", "mild", "severe")[i % 3])
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (30 + i % 2, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.jpg")
    wide = rng.integers(0, 65535, (30, 40), dtype=np.uint16)
    Image.fromarray(wide).save("fundus/mild/102.png")
    Image.fromarray(pixels).save("new.jpg")
    names = run_example("Fundus photographs")
    assert (
        names["clf"].classes_.tolist() == names["data"].target_names == ["mild", "none", "severe"]
    )
    assert names["data"].X.shape == (25, 3, 24, 24)
    assert "macro avg" in capsys.readouterr().out


def series(rng):
    return rng.integers(0, 2000, (5, 20, 20), dtype=np.uint16)


def test_ct_series(rng):
    for i in range(10):
        folder = Path("ct", ("tumour", "clear")[i % 2], f"patient-{i:02}")
        save_slices(folder, range(0, 15, 3), pixels=series(rng), **CT)
    save_slices(Path("new/patient-99"), range(0, 15, 3), pixels=series(rng), **CT)
    names = run_example("CT series")
    X = names["data"].X
    assert X.shape == (10, 4, 8, 8)
    assert X.scale == "numbers in HU, scaled by intensity=(-160.0, 240.0)"
    assert len(names["scores"]) == 5
    assert any(Path("ct-cache").iterdir())


def test_mr_volumes(rng):
    Path("mr").mkdir()
    lines = ["file,diagnosis,patient"]
    for i in range(20):
        voxels = rng.uniform(0, 10**i, (9, 8, 7)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), f"mr/scan-{i:03}.nii.gz")
        lines.append(
            f"scan-{i:03}.nii.gz,{('healthy', 'atrophy')[i % 2]},p{i // 2 * 2 % 10 + i % 2}"
        )
    lines[3] = lines[3].replace("healthy", "")
    Path("mr/labels.csv").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="skipped 1 file or row"):
        names = run_example("MR volumes")
    assert len(names["data"].skipped) == 1
    assert names["data"].X.shape == (19, 8, 8, 8)
    assert len(names["scores"]) == 5
