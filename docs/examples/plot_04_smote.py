"""
SMOTE and other samplers in a pipeline
======================================

Samplers that compute new images go before the classifier, in a pipeline.

"""

# %%
# Inside a pipeline, resampling happens in each fold of a cross-validation, on
# its training rows only. (Samplers that only select rows can also be passed to
# the classifier, as ``sampler=``, and are then drawn anew for every epoch.)
#
# On rows of pixels
# -----------------
#
# imbalanced-learn works on tables. ``input_shape`` tells the classifier the shape
# of the image in a row.

import matplotlib.pyplot as plt
import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from sklearn.model_selection import cross_val_score

from skimbal import CNN2DClassifier, NDSampler
from skimbal.datasets import load_imbalanced_digits

data = load_imbalanced_digits()
X, X_test = data.X_train.astype("float32"), data.X_test.astype("float32")
rows, rows_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
# A small network on the images as they are.
params = {"module": "small", "sampler": "uniform", "augment": None, "batch_size": 64}
params |= {"max_epochs": 5, "random_state": 0}

on_rows = make_pipeline(
    SMOTE(random_state=0),
    CNN2DClassifier(input_shape=(8, 8), **params),
)
on_rows.fit(rows, data.y_train)

# %%
# On images
# ---------
#
# :class:`~skimbal.NDSampler` flattens images of any number of axes, lets the
# sampler work on them, and restores the shape.

on_images = make_pipeline(
    NDSampler(SMOTE(random_state=0)),
    CNN2DClassifier(**params),
)
on_images.fit(X, data.y_train)
difference = np.abs(
    on_rows.predict_proba(rows_test) - on_images.predict_proba(X_test)
).max()
print(f"largest difference of the probabilities: {difference}")

# %%
# Images from SMOTE
# -----------------
#
# New images of a rare class are interpolations of two neighbours. The original
# rows come first, and the new rows follow.

X_new, y_new = NDSampler(SMOTE(random_state=0)).fit_resample(data.X_train, data.y_train)
print(
    f"before: {np.bincount(data.y_train)}, after: {np.bincount(y_new)}, {X_new.dtype}"
)

fig, axes = plt.subplots(2, 6, figsize=(8, 3))
for ax, image in zip(axes[0], data.X_train[data.y_train == 1], strict=False):
    ax.imshow(image, vmin=0, vmax=16)
for ax, image in zip(axes[1], X_new[len(X) :][y_new[len(X) :] == 1], strict=False):
    ax.imshow(image, vmin=0, vmax=16)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
axes[0, 0].set_ylabel("originals")
axes[1, 0].set_ylabel("from SMOTE")
plt.show()

# %%
# The new images look like blends. Interpolating pixels makes sense for aligned
# images, such as these, and less so for others.
#
# In a cross-validation
# ---------------------
#
# A pipeline is an estimator. SMOTE never saw the images of these scores.

scores = cross_val_score(on_images, X, data.y_train, cv=3, scoring="balanced_accuracy")
print(f"balanced accuracy of the folds: {scores.round(2)}")

# %%
# A search can vary the parameters of the sampler in the pipeline:

print(
    [
        name
        for name in on_images.get_params()
        if name.startswith("ndsampler__sampler__k")
    ]
)
