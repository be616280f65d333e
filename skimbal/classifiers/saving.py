"""The methods of a classifier that write it to files."""

from collections.abc import Mapping

from sklearn.utils.validation import check_is_fitted

from skimbal.classifiers.card import Notes
from skimbal.classifiers.exporting import ExportableClassifier, export_classifier
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

    def to_onnx(self: ExportableClassifier, path: PathLike, n_tta: int | str = 1) -> None:
        """Write an ONNX file that computes the probabilities of raw pixels.

        The graph has one input, ``"images"`` of shape (n, c, [d,] h, w) in the dtype of the images
        of the fit, and one output, ``"probabilities"`` of shape (n, n_classes) in float32. The
        conversion of the pixels, the crop, the standardisation, ``logit_adjustment`` and the
        softmax are in the graph. Reading and resizing of files are not. Any number of images may
        come in, of any size if the network takes other sizes. Before the file is written,
        onnxruntime computes the probabilities of some images in the range of the training images.

        Parameters
        ----------
        path : str or path-like
            The file. An existing file is replaced when the new file is whole.
        n_tta : {1, "flips", "auto"}, default=1
            1 predicts the image as it is, ``"flips"`` the mean over the mirror images along the
            axes that ``augment`` mirrored in the fit. ``"auto"`` is ``"flips"`` if there are such
            axes, and otherwise 1.

        Raises
        ------
        ImportError
            If a package of the extra ``onnx`` is missing, or torch is older than 2.6.
        ParameterError
            If ``n_tta`` has another value, or is ``"flips"`` after a fit without mirror images.
        ExportError
            If the network cannot be translated, onnxruntime cannot run the graph, or a probability
            differs by more than 1e-5. The path is then as before.
        OSError
            If the file cannot be written.

        Warns
        -----
        UserWarning
            If ``predict_proba`` of this classifier takes other passes over an image than the file.
            Also if the classifier computes in low precision or on a GPU, and probabilities differ
            by more than 1e-5.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import onnxruntime
        >>> from skimbal import CNN2DClassifier
        >>> X = np.random.default_rng(0).integers(0, 256, size=(12, 1, 8, 8), dtype=np.uint8)
        >>> clf = CNN2DClassifier(max_epochs=1, random_state=0).fit(X, ["a", "b"] * 6)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.onnx")
        ...     clf.to_onnx(path)
        ...     session = onnxruntime.InferenceSession(path)
        >>> (probabilities,) = session.run(None, {"images": X})
        >>> bool(np.abs(probabilities - clf.predict_proba(X)).max() < 1e-5)
        True
        >>> session.get_modelmeta().custom_metadata_map["skimbal.classes"]
        '["a", "b"]'
        """
        check_is_fitted(self, "net_")
        export_classifier(self, path, n_tta)
