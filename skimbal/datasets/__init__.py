"""Image sets with a rare class: embedded sets, the sets of MedMNIST, and your files.

Every loader returns a :class:`sklearn.utils.Bunch` with

- ``X_train``, ``X_val``, ``X_test``: images, channels first, in the number type of the source, of
  shape (n, h, w) or (n, c, h, w) in 2D and (n, d, h, w) in 3D.
- ``y_train``, ``y_val``, ``y_test``: labels, shape (n,). Folders and tables have names, as they
  stand there. Arrays have the numbers or the text that they hold.
- ``classes``: ndarray of shape (n_classes,), the distinct labels, sorted as by
  :func:`numpy.unique`.
- ``target_names``: list of str, the name of ``classes[k]`` at index k. A classifier that was fitted
  to all classes has the same order in ``classes_``, and so have ``confusion_matrix`` and
  ``classification_report``.
- ``ndim``: number of spatial axes, 2 or 3.
- ``filename``: str, the file or folder that was read, or None for scikit-learn's digits.
- ``origin``: the call of the loader, an :class:`Origin`, or None if no call loads the same data
  again.
- ``missing_values``: the parameter of a loader, if it was given.
- ``name``, ``DESCR``, ``license``, ``citation``: str.

Data without splits have ``X`` and ``y`` in the place of the six arrays, and parts may be missing.
"""

from skimbal.datasets.card import DataCard
from skimbal.datasets.digits import load_imbalanced_digits
from skimbal.datasets.folder import load_image_folder
from skimbal.datasets.inspection import (
    DataInspection,
    Finding,
    PixelKind,
    inspect_data,
    inspect_folder,
)
from skimbal.datasets.medmnist import load_medmnist, load_medmnist_sample
from skimbal.datasets.npz import load_npz
from skimbal.datasets.origin import Origin

__all__ = [
    "DataCard",
    "DataInspection",
    "Finding",
    "Origin",
    "PixelKind",
    "inspect_data",
    "inspect_folder",
    "load_image_folder",
    "load_imbalanced_digits",
    "load_medmnist",
    "load_medmnist_sample",
    "load_npz",
]
