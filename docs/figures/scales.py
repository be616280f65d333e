"""Images of two sources as they are stored, and on one scale by a rule of ``intensity``."""

import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file

from skimbal.images import ImageFiles

SIZE = 128
rng = np.random.default_rng(1)
y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
radius = np.hypot(x, y)
vessels = np.exp(-np.abs(np.sin(5 * x + 3 * y**2)) * 14)
retina = np.clip(0.75 - 0.3 * radius - 0.3 * vessels, 0, 1) * (radius < 0.95)
retina += 0.3 * np.exp(-((x - 0.35) ** 2 + y**2) / 0.02)
brain = np.where(np.hypot(x, y / 0.9) < 0.85, 0.5, 0) + 0.3 * (np.hypot(x, y) < 0.6)
brain[np.hypot(x - 0.15, y) < 0.15] = brain[np.hypot(x + 0.15, y) < 0.15] = 0.15
brain += rng.normal(0, 0.02, brain.shape) * (brain > 0)

with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    Image.fromarray((retina * 255).astype(np.uint8)).save(root / "8.png")
    Image.fromarray((retina * 65535).astype(np.uint16)).save(root / "16.png")
    shutil.copy(get_testdata_file("CT_small.dcm"), root / "ct.dcm")
    for name, factor in (("a", 400.0), ("b", 9000.0)):
        voxels = (factor * brain.T[:, :, None]).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), root / f"{name}.nii")
    rows = [
        ("8.png", "PNG of 8 bits", "full_range", (0, 65535)),
        ("16.png", "PNG of 16 bits", "full_range", (0, 65535)),
        ("ct.dcm", "CT", (-160, 240), (-1024, 3071)),
        ("a.nii", "MR, scanner A", "percentiles", (0, 7200)),
        ("b.nii", "MR, scanner B", "percentiles", (0, 7200)),
    ]
    fig, axes = plt.subplots(2, len(rows), figsize=(10.5, 5.4))
    for column, (name, title, rule, limits) in zip(axes.T, rows, strict=True):
        for ax, intensity in zip(column, ("stored", rule), strict=True):
            image = np.squeeze(np.asarray(ImageFiles([root / name], intensity=intensity))[0])
            if name.endswith("nii"):
                image = image.T  # the first axis is x
            low, high = limits if intensity == "stored" else (0, 1)
            ax.imshow(image, cmap="gray", vmin=low, vmax=high)
            ax.set(xticks=[], yticks=[], xlabel=f"{image.min():,.5g} to {image.max():,.5g}")
            ax.grid(False)
        column[0].set_title(f"{title}\nas stored")
        column[1].set_title(f"intensity=\n{rule!r}")
