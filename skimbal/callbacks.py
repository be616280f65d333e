"""Callbacks for ``callbacks=`` of the classifiers."""

import os

from skorch.callbacks import Callback

from skimbal.exceptions import ParameterError
from skimbal.typing import PathLike, is_number

__all__ = ["Resume"]


class Resume(Callback):  # type: ignore[misc]
    """Lets a fit that was killed go on where it was.

    The state of the fit is written to a file after an epoch. The next ``fit`` of the same estimator
    to the same data goes on from the file, in this process or in another. Its result equals the
    result of a fit without a stop, bit for bit on the CPU. The file is removed when the fit ends
    or diverges. It stays after an interrupt, a kill or another error.

    *The same* means equal parameters, images, labels, weights, groups and versions, and unchanged
    code of your modules, losses, augmentations and other functions. Each fit has a file of its own,
    named by a checksum of these, so searches, cross-validations and studies can share a folder. The
    parameters ``verbose``, ``warm_start`` and ``callbacks`` of loggers do not count. A file holds
    data only, and no code from it is run.

    Parameters
    ----------
    folder : str or path-like
        Where the files are. It is made if it is missing.
    seconds : float or None, default=None
        Least time between two writes, in seconds. 0 writes after every epoch. None writes after
        every epoch as long as all writes take at most one second plus 1 % of the time of the fit.

    Raises
    ------
    ParameterError
        By ``fit``, before any training: if ``folder`` is not a path, ``seconds`` is not None or a
        number of at least 0, or a parameter of the estimator has no description, such as an open
        file. By ``partial_fit``, which trains one epoch.

    Warns
    -----
    UserWarning
        If a file is damaged or comes from another program, and the fit begins anew. If the folder
        cannot be written to, and the fit goes on without it.

    See Also
    --------
    skorch.callbacks.Checkpoint : Keeps the best network of a fit.

    Notes
    -----
    The state has the weights and buffers, the optimizer with its learning rates, the scale of
    float16, moving sums of the loss, the place in the sampler, the random generators of Python,
    numpy and torch, the generators that your functions and objects hold, the history, and the
    attributes of other callbacks as far as they are data. An object with methods ``state_dict`` and
    ``load_state_dict`` is asked for its state.

    With ``random_state=None`` the seed that was drawn is in the file. A fit that is running keeps
    its file for itself.

    Examples
    --------
    >>> import tempfile
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.callbacks import Resume
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> data = load_imbalanced_digits()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf = CNN2DClassifier(callbacks=[Resume(folder)], max_epochs=2, random_state=0)
    ...     n_epochs = clf.fit(data.X_train, data.y_train).n_epochs_
    >>> n_epochs
    2
    """

    def __init__(self, folder: PathLike, seconds: float | None = None) -> None:
        self.folder = folder
        self.seconds = seconds

    def check(self) -> None:
        """Check the parameters.

        Raises
        ------
        ParameterError
            If one of them cannot be used.
        """
        if not isinstance(self.folder, str | os.PathLike) or not os.fspath(self.folder):
            raise ParameterError("folder", "the path of a folder", self.folder).within("Resume")
        if self.seconds is not None and not (is_number(self.seconds) and self.seconds >= 0):
            expected = "None or a number of at least 0"
            raise ParameterError("seconds", expected, self.seconds).within("Resume")
