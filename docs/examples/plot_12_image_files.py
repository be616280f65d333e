"""
From a folder of JPEGs to a score
=================================

Photographs of the retina, in several sizes, with a folder for each class.

"""

# %%
# The pictures are drawn here: an orange disc with vessels and a bright optic disc, on
# black. One in five has yellow spots, like exudates. Two cameras give pictures of two
# sizes.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_predict

from skimbal import CNN2DClassifier
from skimbal.datasets import load_image_folder

rng = np.random.default_rng(0)


def draw_retina(has_spots, width, height):
    """Draw a fundus photograph."""
    picture = Image.new("RGB", (240, 240))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((10, 10, 230, 230), fill=(190, 85 + int(rng.integers(20)), 40))
    x, y = 60 + rng.integers(20), 110 + rng.integers(20)
    for end in rng.integers(20, 220, size=(6, 2)):
        draw.line((x, y, 120, *end[:1], *end), fill=(120, 30, 20), width=3)
    draw.ellipse((x - 18, y - 18, x + 18, y + 18), fill=(250, 210, 130))
    for _ in range(rng.integers(8, 16) if has_spots else 0):
        a, b = rng.integers(110, 190, size=2)
        draw.ellipse((a, b, a + 9, b + 9), fill=(250, 230, 90))
    return picture.filter(ImageFilter.GaussianBlur(2)).resize((width, height))


scratch = tempfile.TemporaryDirectory()
root = Path(scratch.name)
for i in range(150):
    name = "exudates" if i % 5 == 0 else "healthy"
    (root / name).mkdir(exist_ok=True)
    width, height = [(320, 240), (200, 200)][i % 2]
    draw_retina(name == "exudates", width, height).save(root / name / f"{i:03}.jpg")

# %%
# Loading
# -------
#
# Only headers are read here. Without ``size`` the two sizes would be an error,
# which names a file of each size. ``cache="memory"`` keeps the small pictures once they
# have been decoded. The labels are the names of the folders.

data = load_image_folder(root, size=(48, 48), cache="memory")
print(data.X)
print(data.y[:2])
print(data.card)

# %%
# One index reads one picture, channels first.

fig, axes = plt.subplots(2, 5, figsize=(8, 3.6))
for row, label in zip(axes, data.target_names, strict=True):
    for ax, i in zip(row, np.flatnonzero(data.y == label), strict=False):
        ax.imshow(data.X[i].transpose(1, 2, 0) / 255)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    row[0].set_ylabel(label)
fig.suptitle("Five pictures of each class, at the size of the network")
plt.show()

# %%
# Training
# --------
#
# ``X`` replaces an array. The folds of the cross-validation are row numbers,
# and threads read the batches ahead.

clf = CNN2DClassifier(
    module="small", augment=None, max_epochs=8, batch_size=32, random_state=0
)
clf.set_params(net__module__width=16)
y_pred = cross_val_predict(clf, data.X, data.y, cv=2)
print(f"balanced accuracy {balanced_accuracy_score(data.y, y_pred):.2f}")

# %%
# An error names a damaged file. The file can be left out, with its label.

broken = root / "healthy" / "001.jpg"
broken.write_bytes(broken.read_bytes()[:1000])
try:
    np.asarray(load_image_folder(root, size=(48, 48)).X)
except ValueError as error:
    print(str(error).replace(scratch.name, "..."))

scratch.cleanup()
