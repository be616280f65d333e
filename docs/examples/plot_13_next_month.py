"""
Next month, on another machine
==============================

A model from a folder of images: trained, judged, saved, and used on new files in
another process, where nothing but the file of the model is known.

"""

# %%
# Images in folders
# -----------------
#
# The pictures are chest X-rays of PneumoniaMNIST if the environment variable
# ``SKIMBAL_DATA`` names a folder with them, and scikit-learn's handwritten digits
# otherwise, in both cases with a rare class. They are written as PNG files, with a
# folder for each class, as a clinic might export them. The folder ``new`` has the
# images of next month, without labels.

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import skimbal
from skimbal import CNN2DClassifier
from skimbal.datasets import load_image_folder, load_imbalanced_digits, load_npz
from skimbal.evaluation import evaluate
from skimbal.images import list_images
from skimbal.thresholds import CostMatrixClassifier

scratch = tempfile.TemporaryDirectory()
root = Path(scratch.name)
xrays = sorted(
    Path(os.environ.get("SKIMBAL_DATA", ".")).glob("*/pneumoniamnist*imb*.npz")
)
if xrays:
    arrays = load_npz(xrays[0])
    names, rare, scale = ["normal", "pneumonia"], "normal", 1
else:
    arrays = load_imbalanced_digits()
    names, rare, scale = arrays.target_names, "eight", 15  # pixels from 0 to 16
rng = np.random.default_rng(0)


def write(folder, images, labels, n, in_classes=True):
    """Write n images as PNG files, in folders of their classes or in one folder."""
    for i, row in enumerate(rng.permutation(len(images))[:n]):
        place = root / folder / (names[labels[row]] if in_classes else "")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row] * scale).save(place / f"{i:03}.png")


write("scans/train", arrays.X_train, arrays.y_train, 500)
write("scans/test", arrays.X_test, arrays.y_test, 200)
write("new", arrays.X_val, arrays.y_val, 12, in_classes=False)

# %%
# Training
# --------
#
# The fit stores how the files were read, the names of the classes and the range of
# the pixels.

data = load_image_folder(root / "scans", cache="memory")
print(data.card)
clf = CNN2DClassifier(
    module="small",
    augment=None,
    sampler="uniform",
    max_epochs=3,
    batch_size=32,
    random_state=0,
)
clf.fit(data.X_train, data.y_train)
print(clf.input_.shape, clf.input_.axes, clf.input_.scale, sep=", ")

# %%
# The report on test images
# -------------------------
#
# Scores of each class, with 95 % intervals from a bootstrap. With ``groups=`` there
# would be scores of patients, too. ``result.to_html("report.html")`` writes them with
# pictures.

result = evaluate(clf, data.X_test, data.y_test, random_state=0)
print(result.summary())

# %%
# Saving
# ------
#
# One file without code. Its card tells people what the model is.

score = result.find("balanced_accuracy").value
clf.save(
    root / "model.skimbal",
    scores={"balanced accuracy, 200 test images": round(score, 3)},
    description="An example of the documentation.",
    license="CC-BY-4.0",
)
print(skimbal.persistence.read_card(root / "model.skimbal"))

# %%
# Next month
# ----------
#
# Another process, in another folder. It knows neither the images of the training nor
# this program. ``skimbal predict model.skimbal new/ --output predictions.csv`` does
# the same.

program = """
import sys
import skimbal

clf = skimbal.load(sys.argv[1])
print(clf.classes_)
for path, proba in zip(skimbal.images.list_images("new"), clf.predict_proba("new")):
    print(path, proba.round(3))
"""
done = subprocess.run(
    [sys.executable, "-c", program, str(root / "model.skimbal")],
    cwd=root,
    check=True,
    capture_output=True,
    text=True,
)
print(done.stdout)

# %%
# The probabilities are those of the fitted classifier, bit for bit.

loaded = skimbal.load(root / "model.skimbal")
files = list_images(root / "new")
proba = loaded.predict_proba(files)
print(np.array_equal(proba, clf.predict_proba(files)))

fig, axes = plt.subplots(2, 6, figsize=(8, 3.2))
for ax, path, row in zip(axes.flat, files, proba, strict=True):
    ax.imshow(np.asarray(Image.open(path)), cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{loaded.classes_[row.argmax()]} {row.max():.2f}", fontsize=9)
    ax.grid(False)
fig.suptitle("The images of next month, with their most probable class")
plt.show()

# %%
# Another scale of the pixels
# ---------------------------
#
# Somebody divides by 255 first, as other programs want it. The probabilities would be
# wrong without a sign of it, so this is a warning.

pixels = np.stack([np.asarray(Image.open(path)) for path in files])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    wrong = loaded.predict_proba(pixels / 255)
print(caught[0].message)
print(f"largest change of a probability: {np.abs(wrong - proba).max():.2f}")

# %%
# Decisions
# ---------
#
# ``predict`` takes the most probable class. Here, to miss an image of the rare class
# costs ten times as much as a false alarm.

costs = {(a, b): 10 if a == rare else 1 for a in names for b in names if a != b}
careful = CostMatrixClassifier(loaded, cost_matrix=costs)
for rule, model in (("most probable class", loaded), ("least expected cost", careful)):
    decisions = model.predict(data.X_test)
    found = np.mean(decisions[data.y_test == rare] == rare)
    alarms = np.mean(decisions[data.y_test != rare] == rare)
    print(f"{rule}: {rare} found {found:.0%}, false alarms {alarms:.0%}")

scratch.cleanup()
