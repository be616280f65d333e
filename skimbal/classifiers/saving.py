"""The methods of a classifier that write it to files."""

from collections.abc import Mapping

from sklearn.utils.validation import check_is_fitted

from skimbal.classifiers.card import Notes
from skimbal.classifiers.packing import FittedClassifier, pack
from skimbal.model_file import write_model_file
from skimbal.typing import PathLike

__all__ = ["SavingMixin"]


class SavingMixin:
    """A classifier that can be written to a file."""

    def save(
        self: FittedClassifier,
        path: PathLike,
        *,
        scores: Mapping[str, float | str] | None = None,
        description: str | None = None,
        license: str | None = None,
    ) -> None:
        """Write the fitted classifier to a file, which :func:`skimbal.load` reads.

        The file holds weights, parameters, classes, the form of the input, the history of the
        epochs, and a card of the model for people. It holds no code and no pickle. A file that
        exists is replaced once the new file is complete, so nothing is lost if writing fails.

        Parameters
        ----------
        path : str or path-like
            The file, such as ``"model.skimbal"``.
        scores : dict of str to float or str, default=None
            Scores for the card, such as ``{"balanced accuracy": 0.85}``.
        description, license : str, default=None
            Text for the card.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        ParameterError
            If ``scores``, ``description`` or ``license`` are something else, or ``net`` has a
            ``module__`` option that is not a number, a text or a list of them.
        ValueError
            If weights are NaN or infinite.
        TypeError
            If the class is a subclass of the two classifiers, or the state of the network has more
            than tensors.
        OSError
            If the file cannot be written.

        Warns
        -----
        UserWarning
            If parameters are objects that the file cannot hold, such as callbacks, functions and
            loss modules. Predictions do not need them, and a later ``fit`` asks for them.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import skimbal
        >>> X, y = np.random.default_rng(0).random((40, 8, 8)), ["benign", "malignant"] * 20
        >>> clf = skimbal.CNN2DClassifier(module="small", max_epochs=1, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.skimbal")
        ...     clf.save(path, description="Random numbers.", license="CC0-1.0")
        ...     loaded = skimbal.load(path)
        >>> np.array_equal(loaded.predict_proba(X), clf.predict_proba(X))
        True
        """
        check_is_fitted(self, "net_")
        if type(self).__module__.partition(".")[0] != "skimbal":
            raise TypeError(
                "save must be called of a CNN2DClassifier or a CNN3DClassifier; got a "
                f"{type(self).__name__}, whose code is not in the file. Use pickle or joblib."
            )
        write_model_file(path, pack(self, Notes(scores, description, license)))
