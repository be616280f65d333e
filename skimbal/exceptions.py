"""Errors and warnings of the package."""

import importlib
import importlib.metadata
import inspect
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

__all__ = [
    "CollapseWarning",
    "DivergenceError",
    "ExportError",
    "InputWarning",
    "ModelFileError",
    "NonFinitePredictionError",
    "ParameterError",
    "UnreadableFileError",
    "import_optional",
    "warn_caller",
]

#: Images that a warning names.
_N_NAMED = 3
#: Packages whose frames lie between a line of the user and this package.
_BETWEEN = ("skimbal", "skorch", "sklearn", "imblearn", "joblib", "torch", "numpy", "contextlib")


class ParameterError(ValueError):
    """A parameter has a value that cannot be used.

    The message has one form throughout the package: "X must be Y; got Z.", and then the remedy.
    The parts are attributes, so that the command line can name its option instead of the parameter.

    Parameters
    ----------
    parameter : str
        Name of the parameter.
    expected : str
        The values that are accepted, as they follow "must be".
    got : object
        The value that was given. The message shows its ``repr``.
    remedy : str, default=""
        Advice, in whole sentences.

    Attributes
    ----------
    parameter, expected, got, remedy
        As given.

    Examples
    --------
    >>> from skimbal.exceptions import ParameterError
    >>> error = ParameterError("lr", "a number above 0", -1)
    >>> print(error)
    lr must be a number above 0; got -1.
    >>> error.worded("--lr")
    '--lr must be a number above 0; got -1.'
    """

    def __init__(self, parameter: str, expected: str, got: object, remedy: str = "") -> None:
        self.parameter, self.expected, self.got, self.remedy = parameter, expected, got, remedy
        super().__init__(self.worded(parameter))

    def worded(self, name: str) -> str:
        """Return the message with another name for the parameter.

        Parameters
        ----------
        name : str
            Such as the option of a command line.

        Returns
        -------
        message : str
            The error in words.
        """
        return f"{name} must be {self.expected}; got {shown(self.got)}. {self.remedy}".rstrip()

    def within(self, name: str) -> "ParameterError":
        """Return the error as a caller sees it, for whom this parameter is a part of another.

        Parameters
        ----------
        name : str
            Name of the outer parameter.

        Returns
        -------
        error : ParameterError
            The same error about ``name__parameter``, as scikit-learn names nested parameters.
        """
        return ParameterError(f"{name}__{self.parameter}", self.expected, self.got, self.remedy)

    def __reduce__(self) -> tuple[type["ParameterError"], tuple[str, str, object, str]]:
        """Return the parts, which an exception from another process is made of."""
        return type(self), (self.parameter, self.expected, _picklable(self.got), self.remedy)


class DivergenceError(FloatingPointError):
    """Training has met a number that is not finite, so the network learns nothing more.

    Found at the end of the epoch: a loss, logits, weights, moving statistics or the state of the
    optimizer that are NaN or infinite, or gradients that float16 cannot hold. Validation sets and
    their loss count, too. The estimator stays as after an interrupt in this epoch.

    Parameters
    ----------
    cause : str
        The number that is not finite, and where it was found.
    epoch : int
        Number of the epoch, from 1.
    loss : str
        Name of the loss.
    lr : float
        Largest learning rate of the training, dimensionless.
    remedy : str
        Advice, in whole sentences.
    history : sequence of dict, default=()
        The record of each epoch, the last one included.

    Attributes
    ----------
    cause, epoch, loss, lr, remedy, history
        As given. ``history`` is the :class:`skorch.history.History` of the training.

    Notes
    -----
    A search with ``error_score=np.nan``, which is the default of scikit-learn, ranks the candidate
    last and says why in a ``FitFailedWarning``.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.exceptions import DivergenceError
    >>> X, y = np.eye(64).reshape(64, 8, 8), np.arange(64) % 2
    >>> try:
    ...     CNN2DClassifier(lr=1e30, module="small", max_epochs=3, random_state=0).fit(X, y)
    ... except DivergenceError as error:
    ...     print(error.lr, error.epoch == len(error.history))
    1e+30 True
    """

    def __init__(
        self,
        cause: str,
        epoch: int,
        loss: str,
        lr: float,
        remedy: str,
        history: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.cause, self.epoch, self.loss, self.lr = cause, epoch, loss, lr
        self.remedy, self.history = remedy, history
        super().__init__(
            f"The training diverged in epoch {epoch} with loss {loss!r} and lr={lr:g}: {cause}. "
            f"{remedy}"
        )

    def __reduce__(self) -> tuple[type["DivergenceError"], tuple[object, ...], dict[str, object]]:
        """Return the parts, which an exception from another process is made of."""
        history = _picklable(self.history)
        if isinstance(history, _Shown):  # for a record of a callback of the user
            history = [
                {name: _picklable(value) for name, value in epoch.items()} for epoch in self.history
            ]
        parts = (self.cause, self.epoch, self.loss, self.lr, self.remedy, history)
        return type(self), parts, {"__notes__": list(getattr(self, "__notes__", []))}


class NonFinitePredictionError(FloatingPointError):
    """The network gives NaN or infinity for an image.

    Parameters
    ----------
    message : str
        The error in words.
    rows : sequence of int
        Numbers of the rows of ``X`` without a finite prediction.

    Attributes
    ----------
    rows : list of int
        As given.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.exceptions import NonFinitePredictionError
    >>> X, y = np.eye(64).reshape(64, 8, 8), np.arange(64) % 2
    >>> clf = CNN2DClassifier(module="small", max_epochs=1, dtype="float32", random_state=0)
    >>> clf = clf.fit(X, y)
    >>> X[3] *= 1e38
    >>> try:
    ...     clf.predict(X)
    ... except NonFinitePredictionError as error:
    ...     print(error.rows)
    [3]
    """

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        self.rows = list(rows)
        super().__init__(message)


class ModelFileError(ValueError):
    """A file is not a model of this package, is damaged, or needs another version.

    Parameters
    ----------
    path : str
        The file.
    reason : str
        The fault of the file, in whole sentences.
    remedy : str, default=""
        Advice, in whole sentences.

    Attributes
    ----------
    path, reason, remedy
        As given.

    Examples
    --------
    >>> import os, tempfile
    >>> import skimbal
    >>> from skimbal.exceptions import ModelFileError
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "empty.skimbal")
    ...     open(path, "w").close()
    ...     try:
    ...         skimbal.load(path)
    ...     except ModelFileError as error:
    ...         print(error.reason)
    It is empty.
    """

    def __init__(self, path: str, reason: str, remedy: str = "") -> None:
        self.path, self.reason, self.remedy = path, reason, remedy
        super().__init__(
            f"path must be a model that save of a classifier has written; got {path!r}. {reason} "
            f"{remedy}".rstrip()
        )

    def __reduce__(self) -> tuple[type["ModelFileError"], tuple[str, str, str]]:
        """Return the parts, which an exception from another process is made of."""
        return type(self), (self.path, self.reason, self.remedy)


class UnreadableFileError(ValueError):
    """An image file cannot be read.

    Parameters
    ----------
    path : str
        The file.
    reason : str
        The fault of the file, without a full stop.
    remedy : str
        Advice, in whole sentences.

    Attributes
    ----------
    path, reason, remedy
        As given.

    Examples
    --------
    >>> from skimbal.exceptions import UnreadableFileError
    >>> print(UnreadableFileError("a.png", "the file is empty", "Leave it out."))
    cannot read a.png: the file is empty. Leave it out.
    """

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        self.path, self.reason, self.remedy = path, reason, remedy
        super().__init__(path, reason, remedy)

    def __str__(self) -> str:
        """Return the message."""
        return f"cannot read {self.path}: {self.reason}. {self.remedy}"


class ExportError(ValueError):
    """A network cannot be written as an ONNX file that predicts the same.

    Examples
    --------
    >>> from skimbal.exceptions import ExportError
    >>> raise ExportError("module must make a network that ONNX can hold.")
    Traceback (most recent call last):
    skimbal.exceptions.ExportError: module must make a network that ONNX can hold.
    """


def _picklable(value: Any) -> Any:
    """Return a value, or its text, as a message must arrive from another process."""
    try:
        pickle.dumps(value)
    except Exception:  # such as a lambda or a generator
        return _Shown(repr(value))
    return value


class _Shown:
    """A value that cannot be pickled, as it is shown."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def shown(value: object) -> str:
    """Return the ``repr`` of a value, or its type if the value has no ``repr`` that works."""
    try:
        return repr(value)
    except Exception:
        return f"an object of the type {type(value).__name__}"


class CollapseWarning(UserWarning):
    """The loss is a pure metric loss, which is known to collapse to one class.

    Every constant prediction is a plateau of soft MCC, and nearly one of soft F1. On a plateau,
    these losses give the network no direction. Scholz et al. (2024) report the collapse (balanced
    accuracy at chance for MCC with batches of 10) and the mixes with cross-entropy that avoid it.

    Examples
    --------
    >>> import warnings
    >>> from skimbal import CollapseWarning
    >>> warnings.simplefilter("ignore", CollapseWarning)
    """


class InputWarning(UserWarning):
    """Images of a prediction have other numbers or voxels than the images of the fit.

    Parameters
    ----------
    words : str
        The warning, without the images if they are given.
    names : sequence of str, default=()
        Names of all images that the warning is about.

    Attributes
    ----------
    words, names
        As given.

    Examples
    --------
    >>> import warnings
    >>> from skimbal.exceptions import InputWarning
    >>> warnings.simplefilter("error", InputWarning)
    >>> print(InputWarning("no contrast.", ["a.png", "b.png"]))
    2 images (a.png, b.png): no contrast.
    """

    def __init__(self, words: str = "", names: Sequence[str] = ()) -> None:
        self.words, self.names = words, list(names)
        first = ", ".join([*self.names[:_N_NAMED], *(["..."] if len(names) > _N_NAMED else [])])
        subject = first if len(names) == 1 else f"{len(names):,} images ({first})"
        super().__init__(f"{subject}: {words}" if names else words)


def import_optional(
    module: str,
    user: str,
    extra: str,
    package: str | None = None,
    beside: Sequence[str] = (),
) -> ModuleType:
    """Import a module of an optional package, or say how to install the package.

    Parameters
    ----------
    module : str
        Name of the module.
    user : str
        The function or option that needs the package.
    extra : str
        Name of the extra that installs the package.
    package : str, default=None
        Name of the package, if it differs from the name of the module.
    beside : sequence of str, default=()
        Further packages that ``user`` needs. The error names those that are missing, too.

    Returns
    -------
    module : module
        The module.

    Raises
    ------
    ImportError
        If the package is missing, or is there and cannot be imported.

    Examples
    --------
    >>> from skimbal.exceptions import import_optional
    >>> import_optional("no_such", "to_frame", "study")
    Traceback (most recent call last):
    ImportError: to_frame needs no_such, which is missing. Run pip install "no_such".
    """
    name = package or module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing.partition(".")[0] != module.partition(".")[0]:  # a package that this one needs
            raise ImportError(
                f"{user} needs {name}, which is installed and needs {missing}, which is missing. "
                f"{_installation([missing.partition('.')[0]], extra)}"
            ) from error
        others = [other for other in beside if other != name and not _is_installed(other)]
        raise ImportError(
            f"{user} needs {name}, which is missing. {_installation([name, *others], extra)}"
        ) from error
    except Exception as error:  # such as of an extension for another version of torch
        reason = f"{type(error).__name__}: {error}"
        raise ImportError(
            f"{user} needs {name}, which is installed and cannot be imported ({reason}). "
            f"{_repair(name, reason)}"
        ) from error


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _installation(packages: Sequence[str], extra: str) -> str:
    """Say how to install packages: by their names, as the extra is in a clone only."""
    wanted = " ".join(f'"{_requirement(package)}"' for package in packages)
    declared = any(_requirement(package, extra) for package in packages)
    clone = f', or in a clone of skimbal pip install -e ".[{extra}]"' if declared else ""
    return f"Run pip install {wanted}{clone}."


def _repair(package: str, reason: str) -> str:
    """Say how to mend a package that is installed."""
    if "torchvision" in reason:
        version = importlib.metadata.version("torch")
        build = version.partition("+")[2] or "cpu"
        return (
            f"torchvision must be made for this build of torch, {version}. Install both from the "
            "same index: pip install --force-reinstall torch torchvision --index-url "
            f"https://download.pytorch.org/whl/{build}."
        )
    wanted = _requirement(package)
    return f'Install versions that fit together: pip install --upgrade "{wanted}".'


def _requirement(package: str, extra: str | None = None) -> str:
    """Return a package with the versions that this package declares, or "" if the extra has none.

    Without an extra, an undeclared package is its name.
    """
    try:
        declared = importlib.metadata.requires("skimbal") or []
    except importlib.metadata.PackageNotFoundError:  # a folder of sources in the path
        declared = []
    for line in declared:
        wanted, _, marker = line.partition(";")
        name = re.match(r"[\w.-]+", wanted)
        of_extra = extra is None or re.search(rf"extra == .{re.escape(extra)}\W", marker)
        if name and of_extra and _same_name(name[0], package):
            return wanted.strip()
    return package if extra is None else ""


def _same_name(one: str, other: str) -> bool:
    """Tell whether an index takes two spellings for one package."""
    return re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()


def warn_caller(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user, however many calls lie between.

    Parameters
    ----------
    message : str or Warning
        The warning.
    category : type, default=UserWarning
        Its class, if the warning is text.

    Warns
    -----
    Warning
        Of the class ``category``.

    Examples
    --------
    >>> import warnings
    >>> from skimbal.exceptions import warn_caller
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_caller("The folder is full.")
    >>> [str(warning.message) for warning in caught]
    ['The folder is full.']
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
