"""Callbacks of the classifiers."""

import dis
import signal
from collections.abc import Mapping
from types import CodeType
from typing import Any, Protocol

from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    MlflowLogger,
    NeptuneLogger,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    TrainEndCheckpoint,
    WandbLogger,
)
from torch import nn

from skimbal.progress import Bar
from skimbal.training.processes import Processes

__all__ = [
    "GO_ON",
    "LOGGERS",
    "STOP",
    "EpochProgress",
    "IncompleteBatches",
    "is_signal",
    "may_stop",
    "notify",
]

#: Whether the training goes on, ends by a callback, or by a signal such as Ctrl-C.
GO_ON, STOP, CTRL_C = range(3)

_RAISE = dis.opmap["RAISE_VARARGS"]


class _Net(Protocol):
    """A net that calls back."""

    history: Any
    criterion_: nn.Module
    epochs_: range


class EpochProgress(Callback):  # type: ignore[misc]
    """A progress bar over the epochs, with the latest losses.

    Parameters
    ----------
    total : int
        Number of epochs.
    """

    def __init__(self, total: int) -> None:
        self.total = total

    def on_train_begin(self, net: _Net, **kwargs: object) -> None:
        """Open the bar."""
        self.bar_ = Bar(total=self.total, unit="epoch")

    def on_epoch_begin(self, net: _Net, **kwargs: object) -> None:
        """Move the bar to the first epoch of a fit that goes on from a file."""
        n_done = len(net.history) - 1 - net.epochs_.start
        if n_done > self.bar_.n:
            # The rate counts the epochs of this run only.
            self.bar_.initial = self.bar_.n = self.bar_.last_print_n = n_done
            self.bar_.refresh()

    def on_epoch_end(self, net: _Net, **kwargs: object) -> None:
        """Advance the bar."""
        losses = {name: net.history[-1].get(name) for name in ("train_loss", "valid_loss")}
        self.bar_.set_postfix({name: f"{v:.3g}" for name, v in losses.items() if v is not None})
        self.bar_.update(len(net.history) - net.epochs_.start - self.bar_.n)

    def on_train_end(self, net: _Net, **kwargs: object) -> None:
        """Close the bar."""
        self.bar_.close()

    def __getstate__(self) -> dict[str, object]:
        """Return the state without the bar, whose lock and stream do not pickle."""
        return {name: value for name, value in vars(self).items() if name != "bar_"}


class IncompleteBatches(Callback):  # type: ignore[misc]
    """Says after the first epoch if many batches lacked a class that the loss needs."""

    def on_epoch_end(self, net: _Net, **kwargs: object) -> None:
        """Look at the counts of the first epoch."""
        if len(net.history) > 1 or "incomplete_batch_count" not in net.history[-1]:
            return
        share = net.history[-1, "incomplete_batch_count"] / net.history[-1, "train_batch_count"]
        if share > 0.05:
            Bar.write(  # next to a progress bar, if there is one
                f"{share:.0%} of the batches lacked a class, which biases the loss "
                f"'{net.criterion_.name}'. Set a larger batch_size (with micro_batch_size if "
                "memory is short), LossMix(..., statistics='moving'), or warmup_epochs of a "
                "LossMix without 'ce'."
            )


#: Callbacks that write lines, pages or files for people, and on which no result depends.
LOGGERS = (
    EpochProgress,
    IncompleteBatches,
    PrintLog,
    ProgressBar,
    MlflowLogger,
    NeptuneLogger,
    SacredLogger,
    TensorBoard,
    WandbLogger,
)
#: Callbacks that write files or lines. Of several processes, the first process writes.
WRITERS = (Checkpoint, TrainEndCheckpoint, *LOGGERS)


class _Follower(Protocol):
    """An object that follows the epochs besides the callbacks."""

    def epoch_begins(self, net: Any) -> object:
        """Take note of an epoch that begins."""

    def epoch_ended(self, net: Any) -> object:
        """Take note of an epoch that has ended, and tell whether to stop."""


class _Tasks(_Follower, Protocol):
    """A follower whose errors end all processes."""

    def agree(self, answer: int) -> int:
        """Return the largest answer of a process, or raise an error."""


class NotifyingNet(_Net, Protocol):
    """A net that calls back, and may be one of several that train together."""

    callbacks_: list[tuple[str, Callback]]
    processes_: Processes
    #: One of the three numbers above.
    due_: int
    #: The file of the fit, and the tasks that callbacks of scikit-learn are told of.
    resumption_: _Follower | None
    tasks_: _Tasks | None


def notify(net: NotifyingNet, method_name: str, arguments: Mapping[str, object]) -> None:
    """Call the callbacks. A callback that raises ``KeyboardInterrupt`` ends all processes."""
    is_at_begin, is_at_end = method_name == "on_epoch_begin", method_name == "on_epoch_end"
    if is_at_begin and net.resumption_ is not None:
        net.resumption_.epoch_begins(net)
    try:
        getattr(net, method_name)(net, **arguments)
        for _, callback in net.callbacks_:
            if net.processes_.is_first or not isinstance(callback, WRITERS):
                getattr(callback, method_name)(net, **arguments)
    except KeyboardInterrupt as error:
        interrupt, due = error, (CTRL_C if is_signal(error) else STOP)
    else:
        interrupt, due = KeyboardInterrupt(), GO_ON
    if method_name in ("on_train_begin", "on_train_end"):
        if due:
            raise interrupt
        return
    net.due_ = max(net.due_, due)
    if is_at_end:
        # An epoch at which a callback stops is an epoch like others.
        if net.tasks_ is not None and net.due_ != CTRL_C and net.tasks_.epoch_ended(net):
            net.due_ = STOP
        if net.tasks_ is None:
            net.due_ = net.processes_.all_reduce_max(net.due_)
        else:
            net.due_ = net.tasks_.agree(net.due_)
    # The other processes wait for this process until the epoch has ended.
    is_awaited = not is_at_end and net.processes_.n_processes > 1 and net.due_ == STOP
    if net.due_ and not is_awaited:
        raise interrupt
    if is_at_end and net.resumption_ is not None:
        net.resumption_.epoch_ended(net)
    if is_at_begin and net.tasks_ is not None:
        net.tasks_.epoch_begins(net)


def may_stop(callback: Callback) -> bool:
    """Tell whether a callback may end the training, as callbacks of users may."""
    is_known = type(callback).__module__.startswith(("skorch.", "skimbal."))
    return isinstance(callback, EarlyStopping) or not is_known


def is_signal(interrupt: BaseException) -> bool:
    """Tell whether a signal, such as Ctrl-C, has raised an interrupt, and no ``raise`` has.

    Python's handler raises between two instructions of the code that happens to run. The handler
    of a program raises by itself.
    """
    cause, traceback = interrupt.__context__, interrupt.__traceback__
    if isinstance(cause, KeyboardInterrupt) and is_signal(cause):
        return True
    handlers = _codes_of_handlers()
    is_raised = False
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code in handlers:
            return True
        is_raised = code.co_code[traceback.tb_lasti] == _RAISE
        traceback = traceback.tb_next
    return not is_raised


def _codes_of_handlers() -> set[CodeType]:
    """Return the code of the functions that handle signals at present."""
    codes = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        for function in (handler, getattr(handler, "func", None), type(handler).__call__):
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType):
                codes.add(code)
    return codes
