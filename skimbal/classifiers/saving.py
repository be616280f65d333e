"""The methods of a classifier that write it to files and pickles."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skimbal.classifiers.card import Notes
from skimbal.classifiers.cloning import joined_with_net, parted_from_net
from skimbal.classifiers.exporting import ExportableClassifier, export_classifier
from skimbal.classifiers.packing import (
    FittedClassifier,
    left_out,
    objects_of,
    pack,
    passes_left_out,
    read_parameters,
    unpack,
    with_objects,
    write_parameters,
)
from skimbal.exceptions import warn_caller
from skimbal.model_file import from_bytes, to_bytes, write_model_file
from skimbal.typing import PathLike

__all__ = ["SavingMixin"]

#: Whether Python pickles or copies a classifier at present.
_IS_PICKLED: ContextVar[bool] = ContextVar("_IS_PICKLED", default=False)


class SavingMixin(BaseEstimator):  # type: ignore[misc]
    """A classifier that can be written to a file, copied, and pickled."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return the parts of a pickle or a copy, which hold all objects as they are."""
        token = _IS_PICKLED.set(True)
        try:
            return super().__reduce_ex__(protocol)
        finally:
            _IS_PICKLED.reset(token)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a pickle, or for skops a state that contains no pickle."""
        if _IS_PICKLED.get() or not _is_ours(self):
            return parted_from_net(super().__getstate__())
        if not hasattr(self, "net_"):
            return {"parameters": write_parameters(self), "objects": objects_of(self)}
        return {"model": to_bytes(pack(self, Notes())), "objects": objects_of(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state. The entries of ``callbacks`` run in ``net_``."""
        if "objects" not in state:
            super().__setstate__(joined_with_net(state))
        elif "model" in state:
            file = from_bytes(state["model"], "a model of skops")
            module = state["objects"].get("module")
            found = unpack(type(self), file, "a model of skops", module, None)
            self.__dict__.update(vars(with_objects(found, state["objects"])))
        else:
            found = type(self)(**read_parameters(state["parameters"]))
            self.__dict__.update(vars(with_objects(found, state["objects"])))

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
        if not _is_ours(self):
            raise TypeError(
                "save must be called of a CNN2DClassifier or a CNN3DClassifier; got a "
                f"{type(self).__name__}, whose code is not in the file. Use pickle or joblib."
            )
        file = pack(self, Notes(scores, description, license))
        lacking = left_out(file.model["parameters"])
        if lacking:
            need = (
                f"need n_tta='auto' or 1 once it is loaded, in place of n_tta={self.n_tta}"
                if passes_left_out(self)
                else "do not need it"
            )
            warn_caller(
                f"The file of the model does not hold {', '.join(lacking)}. Predictions {need}. A "
                "loaded classifier asks for it before it trains."
            )
        write_model_file(path, file)

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


def _is_ours(estimator: object) -> bool:
    """Tell whether the code of a classifier is in this package, and not in a subclass."""
    return type(estimator).__module__.partition(".")[0] == "skimbal"
