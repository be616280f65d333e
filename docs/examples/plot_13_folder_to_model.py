"""
From a folder of files to a model in use
========================================

Real chest X-rays as files, several of each patient: loaded by a table, trained,
judged for images and patients, saved, and used on the files of the next month in
another process.

"""

# %%
# A folder of files
# -----------------
#
# The X-rays are a sample of PneumoniaMNIST (MedMNIST v2, CC BY 4.0), which comes with
# the package. They are written as PNG files, as a clinic might export them, with a
# table. Scores on so few images mean little: this page shows the steps.
#
# MedMNIST does not publish which images are of one patient. The numbers of patients are
# made up here, two images of one class each, to show where yours go.

import csv
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

import skimbal
from skimbal import CNN2DClassifier
from skimbal.datasets import load_image_folder, load_medmnist_sample
from skimbal.evaluation import evaluate
from skimbal.images import list_images
from skimbal.thresholds import CostMatrixClassifier

scratch = tempfile.TemporaryDirectory()
root = Path(scratch.name)
(root / "scans").mkdir()
(root / "new").mkdir()
arrays = load_medmnist_sample("pneumoniamnist")
table = [("file", "finding", "patient", "part")]
for part in ("train", "test"):
    X, y = arrays[f"X_{part}"], arrays[f"y_{part}"]
    for i, row in enumerate(np.argsort(y, kind="stable")):
        file = f"{part}-{i:03}.png"
        Image.fromarray(X[row]).save(root / "scans" / file)
        finding = arrays.target_names[y[row]]
        table.append((file, finding, f"{part}-{finding}-{i // 2:03}", part))
for i, image in enumerate(arrays.X_val[:12]):
    Image.fromarray(image).save(root / "new" / f"{i:03}.png")
with (root / "scans.csv").open("w", newline="") as stream:
    csv.writer(stream).writerows(table)
print(*(root / "scans.csv").read_text().splitlines()[:4], sep="\n")

# %%
# Loading
# -------
#
# Only headers are read here. A patient with images in both parts would be an error.

data = load_image_folder(
    root / "scans",
    labels=root / "scans.csv",
    path_column="file",
    label_column="finding",
    group_column="patient",
    split_column="part",
    cache="memory",
)
print(data.card)

# %%
# Validation by patients
# ----------------------
#
# Each fold has all images of a patient or none.

clf = CNN2DClassifier(
    module="small",
    augment=None,
    sampler="uniform",
    batch_size=32,
    max_epochs=8,
    random_state=0,
)
folds = StratifiedGroupKFold(2, shuffle=True, random_state=0)
scores = cross_val_score(
    clf,
    data.X_train,
    data.y_train,
    groups=data.groups_train,
    cv=folds,
    scoring="balanced_accuracy",
)
print(f"balanced accuracy of the folds: {scores.round(2)}")

# %%
# Training, and the report on test images
# ---------------------------------------
#
# The fit stores how the files were read, the names of the classes and the range of
# the pixels. The report has scores of images and of patients, with 95 % intervals from
# a bootstrap over patients. ``result.to_html("report.html")`` writes them, with
# pictures. As the patients are made up, their scores show the form only.

clf.fit(data.X_train, data.y_train)
print(clf.input_.shape, clf.input_.axes, clf.input_.scale, sep=", ")
result = evaluate(
    clf, data.X_test, data.y_test, groups=data.groups_test, random_state=0
)
print(result.summary())

# %%
# Decisions
# ---------
#
# ``predict`` takes the most probable class. Here, to miss a pneumonia costs five times
# as much as a false alarm.

costs = {("pneumonia", "normal"): 5, ("normal", "pneumonia"): 1}  # (true, decision)
careful = CostMatrixClassifier(clf, cost_matrix=costs)
for rule, model in (("most probable class", clf), ("least expected cost", careful)):
    decisions = model.predict(data.X_test)
    missed = np.sum((data.y_test == "pneumonia") & (decisions == "normal"))
    alarms = np.sum((data.y_test == "normal") & (decisions == "pneumonia"))
    print(f"{rule}: {missed} pneumonias missed, {alarms} false alarms")

# %%
# Saving
# ------
#
# One file without code. Its card describes the model to people.

score = result.find("balanced_accuracy").value
clf.save(
    root / "model.skimbal",
    scores={"balanced accuracy, 180 test images": round(score, 3)},
    description="An example of the documentation.",
    license="CC-BY-4.0",
)
print(skimbal.persistence.read_card(root / "model.skimbal"))

# %%
# Next month, on another machine
# ------------------------------
#
# Another process, in another folder. It has the file of the model and new images, and
# writes a table.

command = [sys.executable, "-m", "skimbal", "predict", "model.skimbal", "new/"]
subprocess.run(
    [*command, "--output", "predictions.csv"], cwd=root, check=True, capture_output=True
)
print(*(root / "predictions.csv").read_text().splitlines()[:5], sep="\n")

# %%
# In Python, the probabilities are the same, bit for bit.

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

scratch.cleanup()

# %%
# ``skimbal fit``, ``skimbal evaluate`` and ``skimbal predict`` do all of this without
# Python: :doc:`/models_in_use`.
