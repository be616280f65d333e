"""The tasks of a fit, of which callbacks of scikit-learn are told."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from skorch.callbacks import Callback
from skorch.history import History

from skimbal.generators import generator_states, restore
from skimbal.training.batches import TrainIterator, closed_at_end
from skimbal.training.processes import Processes

__all__ = ["Context", "Tasks", "generators_kept", "raised_in_all", "snapshot"]

#: Answer to the other processes after an error, above all answers whether to stop.
_FAILED = 10
_Pair = TypeVar("_Pair")


class Context(Protocol):
    """A task in the tree of tasks: the part of scikit-learn's ``CallbackContext`` in use here."""

    def subcontext(self, task_name: str, *, max_subtasks: int | None) -> "Context":
        """Return a task within this task."""

    def call_on_fit_task_begin(self, **told: object) -> "Context":
        """Tell the callbacks that the task begins."""

    def call_on_fit_task_end(self, **told: object) -> bool:
        """Tell the callbacks that the task has ended, and whether one of them stops its level."""


class _Net(Protocol):
    """A net on a device, whose generators callbacks may draw from."""

    device: str


class FollowedNet(_Net, Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that its tasks are about."""

    history: Any
    callbacks_: list[tuple[str, Callback]]
    epochs_: range
    iterators_: dict[str, Any]

    @property
    def default_callbacks(self) -> list[tuple[str, Callback]]:
        """The callbacks of every net."""


class Tasks:
    """A fit as a tree of tasks: the fit, its epochs, and their batches if these are asked for.

    Of several processes, the first tells the callbacks. All of them learn whether to stop. An error
    of a callback is raised in all of them, at the next message that they wait for.

    Parameters
    ----------
    estimator : estimator instance
        The classifier that is fitted.
    root : Context or None
        The task of the fit. None in a process whose callbacks are told nothing.
    data : dict of str to callable
        The rows that train.
    asks_for_batches : bool
        Whether batches are tasks within an epoch.
    may_stop : bool
        Whether a callback may end the training.
    processes : Alone or Together
        The processes that train. They are known longer than the net knows them.
    """

    def __init__(
        self,
        estimator: object,
        root: Context | None,
        data: Mapping[str, Callable[[], object]],
        asks_for_batches: bool,
        may_stop: bool,
        processes: Processes,
    ) -> None:
        self._root, self._told = root, {"estimator": estimator, **data}
        self._asks_for_batches, self.may_stop = asks_for_batches, may_stop
        self._processes = processes
        #: The tasks that have begun and not ended, the outermost first.
        self._open: list[Context] = []
        self._n_epochs = 0
        self._failure: Exception | None = None

    def fit_begins(self) -> None:
        """Begin the task of the fit."""
        self._tell(self._begin)
        self.agree()

    def epoch_begins(self, net: FollowedNet) -> None:
        """Begin the task of an epoch. Epochs that a file brought are over at once."""
        self._tell(lambda _: self._begin_epochs(net))

    def _begin_epochs(self, net: FollowedNet) -> None:
        while self._n_epochs < len(net.history) - 1 - net.epochs_.start:
            self._begin_epoch(net, n_batches=0)
            self._end(net, None)
        n_batches: int | None = 0
        if self._asks_for_batches:
            iterator = net.iterators_["iterator_train"]
            # Others may give more batches than their length, which scikit-learn would not accept.
            n_batches = len(iterator) if isinstance(iterator, TrainIterator) else None
        self._begin_epoch(net, n_batches)

    def epoch_ended(self, net: FollowedNet) -> bool:
        """End the task of an epoch, and tell whether a callback stops the training."""
        return self._tell(lambda _: self._end(net, lambda: {"net_": snapshot(net)}))

    def agree(self, answer: int = 0) -> int:
        """Return the largest answer of a process, or raise the error of a callback in all."""
        failure, processes = self._failure, self._processes
        largest = processes.all_reduce_max(answer if failure is None else _FAILED)
        if largest == _FAILED:
            raise raised_in_all(processes, failure)
        return largest

    def batches(self, net: _Net, pairs: Iterator[_Pair]) -> Iterator[_Pair]:
        """Return the batches of an epoch, each of them a task if they are asked for."""
        return self._batches(net, pairs) if self._asks_for_batches else pairs

    def _batches(self, net: _Net, pairs: Iterable[_Pair]) -> Iterator[_Pair]:
        with closed_at_end(pairs) as inner:
            for pair in inner:
                self._tell(lambda _: self._begin_batch(net))
                yield pair
                is_stopped = self._tell(lambda _: self._end(net, None))
                if self.agree(int(is_stopped)):
                    return

    def _begin_batch(self, net: _Net) -> None:
        with generators_kept(net):
            self._begin(self._open[-1].subcontext("batch", max_subtasks=0))

    def fit_ended(self, net: FollowedNet) -> None:
        """End the task of the fit, and tasks within it that a callback of skorch broke off."""
        self._tell(lambda _: self._end_all(net))
        self.agree()

    def _end_all(self, net: FollowedNet) -> None:
        while len(self._open) > 1:
            self._end(net, None)
        self._end(net, lambda: {"net_": snapshot(net)})

    def close(self, error: BaseException) -> None:
        """End the tasks that an error broke off, without a fitted estimator."""
        while self._open:
            try:
                self._open.pop().call_on_fit_task_end(**self._told)
            except Exception as another:
                error.add_note(f"A callback failed as well: {type(another).__name__}: {another}")

    def _tell(self, tell: Callable[[Context], object]) -> bool:
        """Tell the callbacks, and return their answer. An error waits for the other processes."""
        if self._root is None or self._failure is not None:
            return False
        try:
            return bool(tell(self._root))
        except Exception as error:
            if self._processes.n_processes == 1:
                raise
            self._failure = error
            return False

    def _begin(self, context: Context) -> None:
        self._open.append(context)
        context.call_on_fit_task_begin(**self._told)

    def _begin_epoch(self, net: FollowedNet, n_batches: int | None) -> None:
        self._n_epochs += 1
        with generators_kept(net):
            self._begin(self._open[0].subcontext("epoch", max_subtasks=n_batches))

    def _end(self, net: _Net, attributes: Callable[[], dict[str, object]] | None) -> bool:
        with generators_kept(net):
            context = self._open.pop()
            told = {**self._told, "reconstruction_attributes": attributes}
            return bool(context.call_on_fit_task_end(**told))


@contextmanager
def generators_kept(net: _Net) -> Iterator[None]:
    """Keep the random generators as they are, from which callbacks may draw."""
    before = generator_states(net.device)
    try:
        yield
    finally:
        restore(before, net.device)


def raised_in_all(processes: Processes, failure: Exception | None) -> Exception:
    """Return the error of the first process. In others, return an error that names it."""
    reason = processes.broadcast(
        None if failure is None else f"{type(failure).__name__}: {failure}"
    )
    return failure or RuntimeError(
        f"A callback of scikit-learn failed in the first process, so all processes end: {reason}"
    )


def snapshot(net: FollowedNet) -> FollowedNet:
    """Return a copy of a net that trains, which stays as it is and does not train the net.

    Callbacks of the user stay with the net, as they may hold locks, files and the like.
    """
    own: set[str] = {name for name, _ in net.default_callbacks}
    bare: FollowedNet = object.__new__(type(net))
    vars(bare).update(vars(net))
    vars(bare).update(
        callbacks=None,
        callbacks_=[(name, callback) for name, callback in net.callbacks_ if name in own],
        history_=History(net.history[:]),
    )
    try:
        return copy.copy(bare)
    except Exception as error:
        error.add_note(
            "A callback of scikit-learn asked for the classifier as it is after an epoch, which "
            "takes a copy of the network. Use a network that can be pickled, or callbacks that "
            "do not ask for fitted_estimator."
        )
        raise
