"""The state of a fit in a file, from which an equal fit goes on."""

import hashlib
import io
import json
import pickle
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from skimbal.atomic import ProcessIdentity, remove_leftovers, write_file
from skimbal.exceptions import ParameterError, warn_caller
from skimbal.fingerprints import digest
from skimbal.generators import GeneratorStates, generator_states, restore
from skimbal.progress import Bar
from skimbal.training.callbacks import LOGGERS
from skimbal.training.epoch import EpochNet
from skimbal.training.memory import set_rows_at_once
from skimbal.training.processes import Processes
from skimbal.training.state import Packed, StateMismatchError, has_state, pack, unpack
from skimbal.typing import PathLike

__all__ = ["Resumption", "decode", "seal", "write_state"]

_MAGIC, _SUFFIX = b"skimbal resume 1 ", ".resume"
#: Writing takes this share of the time of a fit, and so many seconds besides.
_SHARE, _ALLOWANCE = 0.01, 1.0
#: Errors of torch for a file that another program has written.
_FOREIGN = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError),
    pickle.UnpicklingError,
)
#: Files of the fits that this process trains at present.
_RUNNING: set[Path] = set()


class ResumableNet(EpochNet, Protocol):
    """The parts of a :class:`~skimbal.training.TrainingNet` that have a state."""

    #: The iterators of the present fit, by their names as parameters.
    iterators_: dict[str, Any]


@dataclass(frozen=True)
class _Head:
    """The first line of a file."""

    key: str
    seed: int
    #: Epochs of the fit that are done, epochs of the fit, and its first epoch in the history.
    n_done: int
    n_epochs: int
    first_epoch: int
    #: Checksum of the weights with which the network began.
    start: str | None
    writer: dict[str, Any]

    def is_of_running_fit(self, path: Path) -> bool:
        """Tell whether another fit is writing the file. Of another machine, nobody knows."""
        me, writer = ProcessIdentity.current(), ProcessIdentity(**self.writer)
        if writer.machine != me.machine:
            return False
        return path in _RUNNING if writer == me else not writer.is_dead()


@dataclass(frozen=True)
class _Saved:
    """The contents of a file: the history, the state of all processes, and of each of them."""

    head: _Head
    history: list[Any]
    common: Packed
    own: list[Packed]


class Resumption:
    """A fit whose state is written to a file, or goes on from a file.

    Parameters
    ----------
    folder : str or path-like
        Where the file is, or will be.
    key : str
        Checksum of everything that decides about the fit, except a seed that was drawn for it.
    seed : int
        Seed of the fit.
    is_seed_fixed : bool
        Whether every equal fit has this seed. Otherwise, a file brings the seed of its fit.
    seconds : float or None
        Least time between two writes. None lets the time that a write takes decide.
    processes : Alone or Together
        The processes that train. The first of them reads and writes.
    is_verbose : bool
        Whether the fit says that it goes on.
    """

    def __init__(
        self,
        folder: PathLike,
        key: str,
        seed: int,
        is_seed_fixed: bool,
        seconds: float | None,
        processes: Processes,
        is_verbose: bool,
    ) -> None:
        self._key, self.seed, self._seconds = key, seed, seconds
        self._processes, self._is_verbose = processes, is_verbose
        self._writes = processes.is_first
        self._began = self._written = time.perf_counter()
        self._spent = self._last = 0.0
        self._start: str | None = None
        #: The lines of the history that will not change any more.
        self._lines: list[str] = []
        self.path = Path(folder, f"{key}{'' if is_seed_fixed else f'-{seed:08x}'}{_SUFFIX}")
        found = self._find(Path(folder), is_seed_fixed) if processes.is_first else None
        self.path, data = processes.broadcast((self.path, found))
        self._saved = None if data is None else decode(data)
        if self._saved is not None:
            self.seed = self._saved.head.seed

    def __enter__(self) -> "Resumption":
        """Mark the file as in use."""
        _RUNNING.add(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the file of a fit that has ended by itself, also by diverging."""
        _RUNNING.discard(self.path)
        if self._processes.is_first and (error is None or isinstance(error, FloatingPointError)):
            with suppress(OSError):
                self.path.unlink()

    @property
    def n_done(self) -> int:
        """Number of epochs that are done when the fit begins."""
        return 0 if self._saved is None else self._saved.head.n_done

    # Reading ---------------------------------------------------------------------------------

    def _find(self, folder: Path, is_seed_fixed: bool) -> bytes | None:
        """Make the folder, and return the file of an interrupted fit if there is one."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            paths = [self.path] if is_seed_fixed else sorted(folder.glob(f"{self._key}-*{_SUFFIX}"))
        except OSError as error:
            self._stop(error)
            return None
        for path in filter(Path.is_file, paths):
            try:
                data = path.read_bytes()
                saved = decode(data)
            except _FOREIGN as error:
                warn_caller(
                    f"{path} cannot be used, so the fit begins anew. The file is damaged, or is "
                    f"not a file of skimbal ({type(error).__name__}: {error})."
                )
                continue
            is_ours = saved.head.key == self._key and len(saved.own) == self._processes.n_processes
            if is_ours and (is_seed_fixed or not saved.head.is_of_running_fit(path)):
                self.path = path
                return data
        return None

    def epoch_begins(self, net: ResumableNet) -> None:
        """Give the net the state of the file before the first epoch.

        Raises
        ------
        ParameterError
            If batches come from an iterator whose state is not known. It is raised for a new fit,
            too, whose file could not be used.
        StateMismatchError
            If the net is not made as the net of the file. It has not changed.
        """
        if len(net.history) > net.epochs_.start:
            return
        _check_iterator(net.iterators_["iterator_train"])
        weights = net.module_.network.state_dict().values()
        self._start = digest(*(tensor.float().numpy(force=True) for tensor in weights))
        if self._saved is None:
            return
        head, saved = self._saved.head, self._saved
        self._saved = None  # its memory
        own = _own(net)
        for apply in self._actions(saved, net, own):
            apply()
        net.history[:] = saved.history
        if net.halves_micro_batches and saved.history:
            set_rows_at_once(net, saved.history[-1]["micro_batch_size"])
        net.epochs_ = range(head.first_epoch, head.first_epoch + head.n_epochs)
        restore(GeneratorStates(*own["generators"]), net.device)
        self._say(saved)

    def _actions(
        self, saved: _Saved, net: ResumableNet, own: dict[str, Any]
    ) -> list[Callable[[], None]]:
        """Return functions that change the net, or refuse the state in all processes."""
        mismatch, actions = None, []
        try:
            if saved.head.start != self._start:
                raise StateMismatchError("the network begins with other weights than it had")
            actions.append(unpack(saved.common, _common(net), net.device))
            actions.append(unpack(saved.own[self._processes.rank], own, net.device))
        except StateMismatchError as error:
            mismatch = error
        if self._processes.all_reduce_max(int(mismatch is not None)):
            if self._processes.is_first:
                warn_caller(f"{self.path} cannot be used, so the fit begins anew: {mismatch}.")
            raise mismatch or StateMismatchError("another process has another state")
        return actions

    def _say(self, saved: _Saved) -> None:
        if not self._processes.is_first:
            return
        head = saved.head
        if self._is_verbose:
            Bar.write(f"Resumed at epoch {head.n_done + 1} of {head.n_epochs} from {self.path}")
        prefix = "['callbacks']"
        left_out = [name.removeprefix(prefix) for name in saved.own[0].left_out if prefix in name]
        if left_out:
            warn_caller(
                f"The fit goes on from {self.path} without the state of {', '.join(left_out)}, "
                "which is not data. Give the callback methods state_dict and load_state_dict, or "
                "begin anew without the file."
            )

    # Writing ---------------------------------------------------------------------------------

    def epoch_ended(self, net: ResumableNet) -> None:
        """Write the state of the net after an epoch, if it is time for it."""
        n_done = len(net.history) - net.epochs_.start
        is_due = self._writes and n_done < len(net.epochs_) and self._is_time()
        if not self._processes.all_reduce_max(int(is_due)):
            return
        before = time.perf_counter()
        own = self._processes.gather(pack(_own(net)))
        if self._processes.is_first:
            writer = asdict(ProcessIdentity.current())
            n_epochs, first = len(net.epochs_), net.epochs_.start
            head = _Head(self._key, self.seed, n_done, n_epochs, first, self._start, writer)
            new = net.history[len(self._lines) :]
            self._lines += [json.dumps(row, default=_plain) for row in new]
            try:
                write_state(self.path, head, self._lines, pack(_common(net)), own)
            except OSError as error:
                self._stop(error)
        self._written = time.perf_counter()
        self._last = self._written - before
        self._spent += self._last

    def _is_time(self) -> bool:
        now = time.perf_counter()
        if self._seconds is not None:
            return now - self._written >= self._seconds
        return self._spent + self._last <= _ALLOWANCE + _SHARE * (now - self._began)

    def _stop(self, error: OSError) -> None:
        """Warn once that nothing is written any more."""
        self._writes = False
        warn_caller(
            f"The state of the fit cannot be written to {self.path} ({type(error).__name__}: "
            f"{error.strerror or error}). The fit goes on without it, and cannot be resumed from "
            "here on. Make room, or give Resume another folder."
        )


def _common(net: ResumableNet) -> dict[str, object]:
    """Return the parts of a net that are equal in all processes."""
    return {
        "module": net.module_,
        "criterion": net.criterion_,
        "optimizer": net.optimizer_,
        "scaler": net.scaler_,
    }


def _own(net: ResumableNet) -> dict[str, Any]:
    """Return the parts of a net that may differ between processes."""
    return {
        "augmentation": net.augmentation,
        "iterators": net.iterators_,
        "callbacks": {name: cb for name, cb in net.callbacks_ if type(cb) not in LOGGERS},
        "generators": tuple(generator_states(net.device)),
    }


def _check_iterator(iterator: object) -> None:
    """Refuse an iterator whose next batches are not known from its state."""
    if getattr(iterator, "persistent_workers", False):
        raise ParameterError(
            "net",
            "a dict without iterator_train__persistent_workers=True with Resume among callbacks",
            type(iterator).__name__,
            "The generators of such workers cannot be read.",
        )
    if not has_state(iterator):
        raise ParameterError(
            "net",
            "a dict whose iterator_train has methods state_dict and load_state_dict, or is a "
            "DataLoader, with Resume among callbacks",
            type(iterator).__name__,
            "Its next batches are not known otherwise.",
        )


def _plain(value: Any) -> object:
    """Return numbers of numpy and torch in a history as numbers of Python."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray | Tensor) else str(value)


def write_state(
    path: Path, head: _Head, history: list[str], common: Packed, own: list[Packed]
) -> None:
    """Write the state of a fit to its file."""
    blob = io.BytesIO()
    parts = [vars(packed) for packed in (common, *own)]
    torch.save({"history": f"[{','.join(history)}]", "parts": parts}, blob)
    body = b"\n" + json.dumps(asdict(head)).encode() + b"\n" + blob.getbuffer()
    write_file(path, seal(body), body)


def decode(data: bytes) -> _Saved:
    """Return the contents of a file, or raise one of many errors."""
    start, _, rest = data.partition(b"\n")
    body = memoryview(data)[len(start) :]
    if start != seal(body):
        raise ValueError("its checksum is another")
    line, _, blob = rest.partition(b"\n")
    head = _Head(**json.loads(line))
    content = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    common, *own = (Packed(**part) for part in content["parts"])
    return _Saved(head, json.loads(content["history"]), common, own)


def seal(body: bytes | memoryview) -> bytes:
    """Return the first line of a file, with a checksum of all other lines."""
    return _MAGIC + hashlib.blake2b(body, digest_size=16).hexdigest().encode()
