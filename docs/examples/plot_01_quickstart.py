"""
Quickstart
==========

Fit a convolutional network to images with two rare classes, and check its predictions.

"""

# %%
# The data
# --------
#
# :func:`~skimbal.datasets.load_imbalanced_digits` needs neither a file nor a
# network. It returns images of 8 x 8 pixels. The digits 8 and 9 are rare, and the
# others make up one large class.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    balanced_accuracy_score,
    matthews_corrcoef,
)

from skimbal import CNN2DClassifier
from skimbal.datasets import load_imbalanced_digits

data = load_imbalanced_digits()
print(f"images: {data.X_train.shape}, {data.X_train.dtype}")
print(f"training rows per class: {np.bincount(data.y_train)}")

# %%
# Fit and predict
# ---------------
#
# By default, ``fit`` chooses network, sampler, augmentation, size of a batch and
# number of steps by the training rows: for images, a residual network, batches with
# equal portions of each class, small affine and intensity changes, and 3,000 steps or
# more. ``max_epochs=10`` ends after fewer steps, which are enough here. ``verbose=1``
# prints the values.

clf = CNN2DClassifier(max_epochs=10, random_state=0)
clf.fit(data.X_train, data.y_train)
print(f"{clf.n_epochs_} epochs, {clf.n_steps_} steps, batches of {clf.batch_size_}")
y_pred = clf.predict(data.X_test)
majority = np.zeros_like(y_pred)

for name, prediction in (
    ("network", y_pred),
    ("always the largest class", majority),
):
    print(f"{name}:")
    print(f"  accuracy          {np.mean(prediction == data.y_test):.3f}")
    print(f"  balanced accuracy {balanced_accuracy_score(data.y_test, prediction):.3f}")
    print(f"  MCC               {matthews_corrcoef(data.y_test, prediction):.3f}")

# %%
# The second block shows why accuracy is misleading here: it is high for a
# prediction that never finds a rare class. For this prediction the balanced
# accuracy, the mean of the recalls, is one third, and the Matthews correlation
# coefficient is zero.
#
# Confusions
# ----------
#
# Normalised by row, the diagonal holds the recall of each class. A rare class
# has 18 images in this test part, so a single image changes its recall by 0.06.

display = ConfusionMatrixDisplay.from_predictions(
    data.y_test,
    y_pred,
    display_labels=data.target_names,
    normalize="true",
    cmap="cividis",
)
display.ax_.grid(False)

# %%
# Training history
# ----------------
#
# ``history_`` is the history of skorch, with one entry for each epoch.

fig, ax = plt.subplots(figsize=(5, 3))
ax.plot(clf.history_[:, "train_loss"])
ax.set(
    xlabel="epoch",
    ylabel="training loss",
    title="cross-entropy + (1 - soft MCC)",
)
plt.show()
