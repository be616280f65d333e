"""Draw the pictures of the README and of the first page of the documentation.

``SKIMBAL_DATA=... python docs/figures/landing.py`` fits PneumoniaMNIST at 9:1 (MedMNIST v2, CC BY
4.0), some minutes on one core, and writes ``docs/pictures``. The pictures are committed, because a
build of the documentation has no real images.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import rcParams
from PIL import Image
from skorch.callbacks import EpochScoring

from skimbal import CNN2DClassifier
from skimbal.datasets import load_npz
from skimbal.displays import EmbeddingDisplay, LearningCurvesDisplay, LossStudyDisplay
from skimbal.study import compare_losses

PICTURES = Path(__file__).parents[1] / "pictures"
FILE = "pneumoniamnist/pneumoniamnist_imb9to1_varun19424.npz"
PLAIN = {"module": "small", "augment": None, "batch_size": 64}
OPTIONS = PLAIN | {"max_epochs": 8, "random_state": 0}
rcParams.update(
    {
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "font.size": 10,
    }
)


def save(figure, name):
    """Write a figure as a small PNG."""
    path = PICTURES / f"{name}.png"
    figure.savefig(path, dpi=110)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def draw_images(axes, X, y):
    """Draw six images of each class."""
    for ax, label in zip(axes, (0, 1), strict=True):
        images = X[y == label][:6].reshape(2, 3, *X.shape[1:])
        ax.imshow(np.block([list(row) for row in images]), cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(f"{('normal', 'pneumonia')[label]}\n{np.mean(y == label):.0%} of the images")
        ax.spines[:].set_visible(False)


data = load_npz(Path(os.environ["SKIMBAL_DATA"]) / FILE)
X, y = np.asarray(data.X_train), np.asarray(data.y_train)

study = compare_losses(
    X,
    y,
    losses=["ce", "wce", "ce+mcc"],
    samplers=["uniform", "balanced"],
    estimator=CNN2DClassifier(max_epochs=5, **PLAIN),
    cv=5,
    random_state=0,
)
print(study)
figure = plt.figure(figsize=(9.5, 3.6))
left, right = figure.subfigures(1, 2, width_ratios=(1, 2.6))
draw_images(left.subplots(2), X, y)
study.plot(ax=right.subplots())
save(figure, "overview")

figure, ax = plt.subplots(figsize=(7, 3))
LossStudyDisplay.from_study(study, kind="differences", ax=ax)
save(figure, "study")

classifiers = {
    loss: CNN2DClassifier(loss=loss, sampler="uniform", **OPTIONS).fit(X, y)
    for loss in ("ce", "f1", "ce+mcc")
}
display = EmbeddingDisplay.from_estimator(
    classifiers,
    np.asarray(data.X_test),
    np.asarray(data.y_test),
    display_labels=["normal", "pneumonia"],
    random_state=0,
)
save(display.figure_, "embedding")

score = EpochScoring("balanced_accuracy", lower_is_better=False)
clf = CNN2DClassifier(
    sampler="balanced", train_split=0.2, callbacks=[("score", score)], **OPTIONS
).fit(X, y)
display = LearningCurvesDisplay.from_estimator(clf)
save(display.figure_, "learning_curves")
