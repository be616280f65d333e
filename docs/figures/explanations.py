"""Draw the picture of the page on explanations: images with a planted lesion, and their maps.

``python docs/figures/explanations.py`` writes ``docs/pictures/explanations.png`` in half a minute.
"""

from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.explanations import CASES, lesions
from skimbal.displays import ExplanationDisplay

matplotlib.use("agg")
classifier, shape, size, n, _ = CASES["28 x 28"]
names = np.array(["healthy", "lesion"])
X, y, _ = lesions(n, shape, size, 0)
clf = classifier(module="residual", max_epochs=15, batch_size=20, augment=None, random_state=0)
clf.fit(X, names[y])
X, y, _ = lesions(2, shape, size, 1)
display = ExplanationDisplay.from_estimator(clf, X, y=names[y], method="occlusion", target="lesion")
display.figure_.savefig(Path(__file__).parents[1] / "pictures" / "explanations.png", dpi=80)
