"""Callbacks of scikit-learn for classifiers, and the tasks that they are told of."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
import sklearn
from sklearn.utils import _safe_indexing
from skorch.callbacks import Callback

from skimbal.classifiers.assembly import Plan
from skimbal.classifiers.inputs import Rows
from skimbal.exceptions import ParameterError
from skimbal.training import (
    ImageDataset,
    Processes,
    Resumption,
    Tasks,
    TrainingNet,
    generators_kept,
    raised_in_all,
)
from skimbal.typing import ArrayLike, ImagesLike

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9
    CallbackSupportMixin = with_callbacks = None

__all__ = ["FollowedMixin", "GivenRows", "train_in_tasks"]

_Base: Any = CallbackSupportMixin or object
#: Attributes of scikit-learn while a fit runs, which a copy of the classifier is not a part of.
_OF_RUNNING_FIT = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


class FollowedMixin(_Base):  # type: ignore[misc]
    """A classifier whose fits callbacks of scikit-learn follow."""

    #: Whether callbacks are told of batches, too.
    _asks_for_batches = False

    def set_callbacks(self, *callbacks: object, batches: bool | None = None) -> Self:
        """Set callbacks of scikit-learn, which follow the epochs of each fit.

        Needs scikit-learn 1.9. The task of a fit has a task for each epoch. At the end of an epoch,
        a callback may ask for the training rows and for ``fitted_estimator``: the classifier as it
        is then, in a copy that further training does not change. A callback whose
        ``on_fit_task_end`` returns True ends the training after the epoch. A search or a pipeline
        passes its callbacks on to its classifiers.

        Parameters
        ----------
        *callbacks : callback instances
            Such as :class:`sklearn.callback.ProgressBar` and
            :class:`sklearn.callback.ScoringMonitor`. They take the place of callbacks that were set
            before. Callbacks of skorch go into the parameter ``callbacks``.
        batches : bool, default=None
            Whether each batch is a task within its epoch. Such a task has no ``fitted_estimator``,
            and a callback that returns True at its end ends the epoch. If None, as it was set
            before, at first False. Clones keep it.

        Returns
        -------
        self : estimator instance
            The same estimator.

        Raises
        ------
        ImportError
            If scikit-learn is older than 1.9.
        TypeError
            If a callback does not follow the protocol :class:`sklearn.callback.FitCallback`, such
            as a list of callbacks.
        ParameterError
            If ``batches`` is not a bool or None.

        Examples
        --------
        >>> from sklearn.callback import ScoringMonitor
        >>> from skimbal import CNN2DClassifier
        >>> from skimbal.datasets import load_imbalanced_digits
        >>> data = load_imbalanced_digits()
        >>> monitor = ScoringMonitor(scoring="balanced_accuracy")
        >>> clf = CNN2DClassifier(module="small", max_epochs=2, random_state=0)
        >>> clf = clf.set_callbacks(monitor).fit(data.X_train, data.y_train)
        >>> [row["task_name"] for row in monitor.get_logs().data]
        ['fit', 'epoch', 'epoch']
        """
        if CallbackSupportMixin is None:
            raise ImportError(
                f"set_callbacks needs scikit-learn 1.9 or newer; got {sklearn.__version__}. Update "
                "scikit-learn, or pass callbacks of skorch as the parameter callbacks."
            )
        if batches is not None and not isinstance(batches, bool):
            raise ParameterError("batches", "True, False or None", batches)
        bundle = next((cb for cb in callbacks if isinstance(cb, list | tuple)), None)
        if bundle is not None:
            raise TypeError(
                "callbacks must be separate arguments, set_callbacks(one, another); got a "
                f"{type(bundle).__name__}. Write set_callbacks(*callbacks)."
            )
        foreign = next((cb for cb in callbacks if _is_of_skorch(cb)), None)
        if foreign is not None:
            raise TypeError(
                "callbacks must be callbacks of scikit-learn; got a callback of skorch, "
                f"{foreign!r}. Pass it as the parameter callbacks of {type(self).__name__}."
            )
        super().set_callbacks(*callbacks)
        if batches is not None:
            self._asks_for_batches = batches
        return self

    def __sklearn_clone__(self) -> Self:
        """Return a clone that asks for batches if this estimator does."""
        cloned: Self = super().__sklearn_clone__()
        if self._asks_for_batches:
            cloned._asks_for_batches = True
        return cloned

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which is not in a fit."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _OF_RUNNING_FIT}


def _is_of_skorch(callback: object) -> bool:
    is_class = isinstance(callback, type) and issubclass(callback, Callback)
    return is_class or isinstance(callback, Callback)


class GivenRows(NamedTuple):
    """The rows of a fit as its caller gave them."""

    X: ImagesLike
    y: ArrayLike
    sample_weight: ArrayLike | None


def train_in_tasks(
    estimator: FollowedMixin,
    net: TrainingNet,
    given: GivenRows,
    plan: Plan,
    valid: Rows | None,
    processes: Processes,
    resumption: Resumption | None,
) -> None:
    """Train a net, and tell callbacks of scikit-learn of its epochs if there are any."""
    if plan.is_whole and estimator.verbose and processes.is_first:
        print(f"{type(estimator).__name__}: {plan.settings}")

    def train(tasks: Tasks | None) -> None:
        valid_data = None if valid is None else valid.data
        net.train_epochs(plan.train.data, valid_data, plan.n_epochs, processes, resumption, tasks)

    def train_and_tell(estimator: FollowedMixin) -> None:
        with generators_kept(net):
            tasks = _begin(estimator, _training_rows(given, plan.train.data), plan, processes)
        if tasks is None:
            train(None)
            return
        try:
            with generators_kept(net):
                tasks.fit_begins()
            train(tasks)
            tasks.fit_ended(net)
        except BaseException as error:
            tasks.close(error)
            raise

    if with_callbacks is None:
        train(None)
    else:
        with_callbacks(train_and_tell)(estimator)


def _begin(
    estimator: FollowedMixin,
    data: dict[str, Callable[[], object]],
    plan: Plan,
    processes: Processes,
) -> Tasks | None:
    """Return the tasks of a fit, about which all processes agree. None if nobody follows them."""
    callbacks: list[object] = vars(estimator).get("_skl_callbacks", [])
    root, failure = None, None
    if processes.is_first:
        name = "fit" if plan.is_whole else "partial_fit"
        try:
            root = estimator._init_callback_context(name, max_subtasks=plan.n_epochs)
        except Exception as error:
            failure = error
    # The callbacks of scikit-learn stop no fit.
    may_stop = any(not type(cb).__module__.startswith("sklearn.") for cb in callbacks)
    facts = failure is not None, len(callbacks) > 0, estimator._asks_for_batches, may_stop
    # In one message. The first process tells the callbacks of all.
    has_failed, is_followed, asks, may_stop = processes.broadcast(facts)
    if has_failed:
        raise raised_in_all(processes, failure)
    return Tasks(estimator, root, data, asks, may_stop, processes) if is_followed else None


def _training_rows(given: GivenRows, data: ImageDataset) -> dict[str, Callable[[], object]]:
    """Return the rows that train, as the caller gave them, each made when it is asked for.

    The rows that validate and the rows of weight 0 are left out.
    """

    @cache
    def rows() -> np.ndarray | None:
        is_all = len(data) == len(data.source) and (np.diff(data.rows) == 1).all()
        return None if is_all else data.rows

    def part(array: Any) -> object:
        return array if rows() is None else _safe_indexing(array, rows())

    def metadata() -> dict[str, object] | None:
        weight = given.sample_weight
        return None if weight is None else {"sample_weight": part(weight)}

    parts = {"X": lambda: part(given.X), "y": lambda: part(given.y), "metadata": metadata}
    return {name: cache(make) for name, make in parts.items()}
