"""Draw the picture of the page on evaluation: parts of a report.

``SKIMBAL_DATA=... python docs/figures/evaluation.py`` fits PneumoniaMNIST (MedMNIST v2, CC BY 4.0),
which takes a minute, and writes ``docs/pictures/evaluation.png`` with chromium. Three images in
turn are a patient here, since the data set has none.
"""

import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from skimbal import CNN2DClassifier
from skimbal.evaluation import evaluate

PICTURE = Path(__file__).parents[1] / "pictures" / "evaluation.png"
FILE = "pneumoniamnist/pneumoniamnist_full_rebuilt.npz"
PARTS = ("#results .answer", "#images .scroll >> nth=0", "#images figure >> nth=2", "#errors")

data = np.load(Path(os.environ["SKIMBAL_DATA"]) / FILE)
names = np.array(["normal", "pneumonia"])
y_train, y_test = names[data["train_labels"].ravel()], names[data["test_labels"].ravel()]
clf = CNN2DClassifier(module="small", max_epochs=6, random_state=0)
clf.fit(data["train_images"][:2000], y_train[:2000])
turn = np.arange(len(y_test)) // 3
patients = [f"{label[0].upper()}{k:03d}" for label, k in zip(y_test, turn, strict=True)]
evaluation = evaluate(clf, data["test_images"], y_test, groups=patients, random_state=0)

with tempfile.TemporaryDirectory() as folder, sync_playwright() as session:
    path = Path(folder, "report.html")
    evaluation.to_html(path)
    browser = session.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox"]
    )
    page = browser.new_page(viewport={"width": 900, "height": 1200})
    page.goto(path.as_uri())
    shots = [
        Image.open(io.BytesIO(page.locator(part).first.screenshot())).convert("RGB")
        for part in PARTS
    ]
    # The heading and the first of three lines of pictures.
    shots[-1] = shots[-1].crop((0, 0, shots[-1].width, 440))
    browser.close()

gap = 12
size = (max(s.width for s in shots) + 2 * gap, sum(s.height + gap for s in shots))
whole = Image.new("RGB", size, "white")
top = 0
for shot in shots:
    whole.paste(shot, (gap, top))
    top += shot.height + gap
whole.quantize(256, method=Image.Quantize.FASTOCTREE).save(PICTURE, optimize=True)
print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")
