"""A photograph and a slice across a series, at one size by each way of resizing."""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np
from PIL import Image

from skimbal.images import ImageFiles

y, x = np.mgrid[-0.75:0.75:120j, -1:1:160j]
radius = np.hypot(x, y)
retina = np.clip(np.array([220, 120, 50]) * (1 - 0.5 * radius[..., None]), 0, 255)
retina[(np.abs(np.sin(6 * x + 2 * y)) < 0.08) & (radius < 0.65)] *= 0.55
retina[np.hypot(x - 0.3, y) < 0.1] = 250, 220, 130
retina[radius > 0.7] = 0
# A body with two lungs and a round nodule, whose slices are 4 mm apart and whose pixels are 1 mm.
z, v, u = np.mgrid[0:96:4, -40:40, -60:60]
body = np.where((u / 55) ** 2 + (v / 36) ** 2 < 1, 40.0, -1000.0)
for side in (-25, 25):
    body[((u - side) / 20) ** 2 + (v / 26) ** 2 + ((z - 48) / 42) ** 2 < 1] = -800
body[(u - 28) ** 2 + v**2 + (z - 48) ** 2 < 100] = 60

CROP = {"size": 112, "resize": "crop"}
with tempfile.TemporaryDirectory() as folder:
    photograph, volume = Path(folder, "retina.png"), Path(folder, "ct.nii")
    Image.fromarray(retina.astype(np.uint8)).save(photograph)
    nibabel.save(
        nibabel.Nifti1Image(np.float32(body).transpose(2, 1, 0), np.diag([1.0, 1, 4, 1])), volume
    )
    cells = [
        (photograph, {}, "a photograph"),
        (photograph, {"size": 112}, "size=112"),
        (photograph, CROP, 'size=112,\nresize="crop"'),
        (volume, {}, "a series, from the front"),
        (volume, {"spacing": 1}, "spacing=1"),
        (volume, {"spacing": 1, **CROP}, 'spacing=1, size=112,\nresize="crop"'),
    ]
    fig, axes = plt.subplots(1, 6, figsize=(11, 2.4))
    for ax, (path, options, title) in zip(axes, cells, strict=True):
        image = np.asarray(ImageFiles([path], **options))[0]
        shown = image.transpose(1, 2, 0) / 255 if path == photograph else None
        if shown is None:
            shown = image[:, image.shape[1] // 2].T[::-1]  # (x, y, z), feet below
        ax.imshow(np.clip(shown, 0, 1) if path == photograph else shown, cmap="gray")
        height, width = shown.shape[:2]
        # All at one size of a pixel.
        ax.set(xlim=(width / 2 - 80.5, width / 2 + 79.5), ylim=(height / 2 + 62, height / 2 - 62))
        ax.set(xticks=[], yticks=[], xlabel=f"{height} x {width}")
        ax.spines[:].set_visible(False)
        ax.set_title(title, fontsize=9)
        ax.grid(False)
