"""Streams and events of the pretended devices, and who waits for whom.

All work is done at once, in the order of the program, so nothing can go wrong here. Instead, the
streams are followed as vector clocks: a stream knows of another stream all that had been launched
there when it waited for it. Memory that a stream uses without knowing of its last write is a race.
"""

import contextlib
import ctypes
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch

from .account import note
from .build import load_shim

#: The index of a device, and the number of a stream of it. The default stream has number 0.
Key = tuple[int, int]

shim = load_shim()
_lock = threading.RLock()
#: The number of the last operation.
_clock = 0
#: For each stream, the last operation of each other stream that it has waited for.
_known: dict[Key, dict[Key, int]] = defaultdict(dict)
#: For each block of memory, the stream and the operation that wrote it last.
_writes: dict[int, tuple[Key, int]] = {}
#: For each block of memory, the streams that record_stream has told its allocator of.
_told: dict[int, set[int]] = defaultdict(set)
#: 0, 1 (warn) or 2 (raise), as torch.cuda.set_sync_debug_mode has it.
sync_debug_mode = 0


def block_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the number of the block of a tensor, and the number of the stream it belongs to."""
    stream = ctypes.c_int64()
    address = tensor.untyped_storage().data_ptr()
    return shim.rehearsal_block(address, ctypes.byref(stream)), stream.value


def record_stream(tensor: torch.Tensor, stream: torch.Stream) -> None:
    _told[block_of(tensor)[0]].add(stream.stream_id)


def current(device: int | None = None) -> Key:
    """Return the current stream of a device."""
    device = shim.rehearsal_exchange_device(-1) if device is None else device
    return device, shim.rehearsal_stream(device)


def follow(
    operation: str, tensors: Sequence[torch.Tensor], written: Sequence[torch.Tensor]
) -> None:
    """Note memory that the operation uses without an order between the streams."""
    global _clock
    with _lock:
        _clock += 1
        for tensor in tensors:
            block, owner = block_of(tensor)
            if block < 0:
                continue
            here = current(tensor.device.index)
            writer, when = _writes.get(block, (here, 0))
            if writer != here and _known[here].get(writer, 0) < when:
                note("race", "written on another stream", operation)
            if owner != here[1] and here[1] not in _told.get(block, ()):
                note("lifetime", "no record_stream", operation)
            if any(tensor is other for other in written):
                _writes[block] = here, _clock


def _learn(waiting: Key, known: dict[Key, int]) -> None:
    with _lock:
        for stream, when in known.items():
            _known[waiting][stream] = max(when, _known[waiting].get(stream, 0))


def _launched(stream: Key) -> dict[Key, int]:
    """Return all that a stream has launched so far or knows of."""
    with _lock:
        return {**_known[stream], stream: _clock}


def host_waits(detail: str, operation: str, known: dict[Key, int] | None = None) -> None:
    """Note that the host waits, for the current stream unless it is said for which operations."""
    note("wait", detail, operation)
    if sync_debug_mode == 1:
        warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=2)
    elif sync_debug_mode == 2:
        raise RuntimeError("called a synchronizing CUDA operation")
    _host_learns(_launched(current()) if known is None else known)


def synchronize(device: object = None) -> None:
    """Do as torch.cuda.synchronize does, of which the debug mode does not warn."""
    note("wait", "all streams", "cuda.synchronize")
    index = device_of(device).index
    _host_learns({stream: _clock for stream in _streams() if stream[0] == index})


def _streams() -> set[Key]:
    return {(device, 0) for device in range(torch.cuda.device_count())} | set(_known)


def _host_learns(known: dict[Key, int]) -> None:
    """Whatever the host launches from now on comes after the operations that it waited for."""
    for stream in _streams():
        _learn(stream, known)


class Stream(torch.Stream):
    """What torch.cuda.Stream is on a GPU."""

    def __new__(cls, device=None, priority=0, **kwargs):
        return super().__new__(cls, device=device_of(device), priority=priority)

    @property
    def key(self) -> Key:
        return self.device_index, self.stream_id

    def wait_stream(self, stream):
        _learn(self.key, _launched((stream.device_index, stream.stream_id)))

    def wait_event(self, event):
        event.wait(self)

    def record_event(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def synchronize(self):
        host_waits("a stream", "Stream.synchronize", _launched(self.key))

    def query(self):
        return True


class Event:
    """What torch.cuda.Event is on a GPU, without times."""

    def __init__(self, enable_timing=False, blocking=False, interprocess=False, external=False):
        self._launched = {}

    def record(self, stream=None):
        self._launched = _launched((current_stream() if stream is None else stream).key)

    def wait(self, stream=None):
        _learn((current_stream() if stream is None else stream).key, self._launched)

    def query(self):
        return True

    def synchronize(self):
        host_waits("an event", "Event.synchronize", self._launched)

    def elapsed_time(self, end_event):
        return 0.0


def device_of(device: object = None) -> torch.device:
    """Return a device with its index; the current device stands for no index."""
    if isinstance(device, int):
        return torch.device("cuda", device)
    device = torch.device("cuda" if device is None else device)
    index = shim.rehearsal_exchange_device(-1) if device.index is None else device.index
    return torch.device("cuda", index)


def _stream(device: int, number: int) -> Stream:
    # The number of CUDA among the kinds of devices.
    return torch.Stream.__new__(Stream, stream_id=number, device_index=device, device_type=1)


def current_stream(device: object = None) -> Stream:
    return _stream(*current(device_of(device).index))


def default_stream(device: object = None) -> Stream:
    return _stream(device_of(device).index, 0)


@contextlib.contextmanager
def in_stream(stream: Stream | None) -> Iterator[None]:
    """Do as torch.cuda.stream does: the stream and its device become current."""
    if stream is None:
        yield
        return
    device = shim.rehearsal_exchange_device(stream.device_index)
    before = current_stream(stream.device_index)
    torch.accelerator.set_stream(stream)
    try:
        yield
    finally:
        torch.accelerator.set_stream(before)
        shim.rehearsal_exchange_device(device)
