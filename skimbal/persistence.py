"""Models in files: loading, and the cards of models."""

from skimbal.classifiers import CNN2DClassifier, CNN3DClassifier, unpack
from skimbal.exceptions import ModelFileError
from skimbal.model_file import read_model_file
from skimbal.networks import ModuleSpec
from skimbal.typing import PathLike

__all__ = ["load", "read_card"]

_CLASSES = {kind.__name__: kind for kind in (CNN2DClassifier, CNN3DClassifier)}


def load(
    path: PathLike, *, module: ModuleSpec | None = None, device: str | None = None
) -> CNN2DClassifier | CNN3DClassifier:
    """Load a classifier from the file that its method ``save`` has written.

    No code of the file runs, and nothing is downloaded. The whole file is compared with its
    checksum first.

    Parameters
    ----------
    path : str or path-like
        The file.
    module : NetworkSpec or callable, default=None
        The network, if it was a factory or a description of your own: the file has its weights and
        its name only. None for the networks of skimbal, timm and torchvision.
    device : str, default=None
        Where to load the network to, such as ``"cpu"``, ``"cuda:0"`` or ``"auto"``. None for the
        device of the fit. If torch cannot use that device here, the first CUDA device or the CPU
        takes its place, with a warning.

    Returns
    -------
    classifier : CNN2DClassifier or CNN3DClassifier
        The fitted classifier. On the same machine its predictions are the predictions before it was
        saved, bit for bit.

    Raises
    ------
    ModelFileError
        If the file is something else than a model, damaged or cut, or needs another version of
        skimbal.
    ParameterError
        If ``module`` is missing or not needed, its weights do not fit, it computes other logits
        than the network of the fit, or torch cannot use ``device``.
    OSError
        If the file cannot be read.

    Warns
    -----
    UserWarning
        If the device of the fit cannot be used, or the major version of a package that computes
        the predictions is another one.

    See Also
    --------
    skimbal.CNN2DClassifier.save : Write a file.
    skimbal.persistence.read_card : Read about a model.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import skimbal
    >>> X, y = np.random.default_rng(0).random((40, 8, 8)), ["benign", "malignant"] * 20
    >>> clf = skimbal.CNN2DClassifier(module="small", max_epochs=1, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.skimbal")
    ...     clf.save(path)
    ...     loaded = skimbal.load(path, device="cpu")
    >>> loaded.classes_
    array(['benign', 'malignant'], dtype='<U9')
    """
    file = read_model_file(path)
    name = file.model.get("class")
    if not isinstance(name, str) or name not in _CLASSES:
        raise ModelFileError(
            str(path),
            f"It holds a {name}, which this version of skimbal does not know. It was written by "
            f"skimbal {file.version}.",
        )
    return unpack(_CLASSES[name], file, str(path), module, device)


def read_card(path: PathLike) -> str:
    """Read the card of a model: its description, data, training and scores.

    Parameters
    ----------
    path : str or path-like
        The file that ``save`` of a classifier has written.

    Returns
    -------
    card : str
        Markdown.

    Raises
    ------
    ModelFileError
        As for :func:`skimbal.load`.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.persistence import read_card
    >>> X, y = np.random.default_rng(0).random((40, 8, 8)), ["benign", "malignant"] * 20
    >>> clf = CNN2DClassifier(module="small", max_epochs=1, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.skimbal")
    ...     clf.save(path, scores={"AUC": 0.5})
    ...     card = read_card(path)
    >>> print(card.splitlines()[0])
    # Model card: CNN2DClassifier
    """
    return read_model_file(path).card
