"""The functions of ``torch.cuda`` that ask a driver, with answers for the pretended devices."""

import contextlib
import ctypes
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

from .build import load_shim

shim = load_shim()
import torch  # noqa: E402  the shim is loaded first

from . import kernels, streams  # noqa: E402
from .account import PACKAGE, line_of  # noqa: E402

#: Their number is in the shim, too.
N_DEVICES = 2
#: Memory of each device, in bytes.
TOTAL = 16 * 2**30
_installed = threading.Event()


def install() -> None:
    """Pretend for the rest of the process that there are CUDA devices."""
    if _installed.is_set():
        return
    _installed.set()
    import torch._dynamo  # which looks at torch.cuda as it is

    # Gradients of CUDA operations are overridden for all operations at once.
    warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)
    kernels.register()
    torch.serialization.register_package(5, lambda storage: None, storage_on_cuda)
    torch.UntypedStorage.clone = clone_of_storage
    replace_state_of_driver()
    replace_memory()
    replace_streams()


def replace_state_of_driver() -> None:
    cuda, low = torch.cuda, torch._C
    cuda._initialized, cuda._is_in_bad_fork = True, lambda: False
    cuda.is_available, cuda.is_initialized = (lambda: True), (lambda: True)
    # A function for each name, as the compiler tells functions apart.
    cuda.init, cuda._lazy_init, cuda.ipc_collect = (lambda: None), (lambda: None), (lambda: None)
    cuda.device_count = lambda: N_DEVICES
    cuda.default_generators = tuple(torch.Generator().manual_seed(i) for i in range(N_DEVICES))
    cuda.get_device_name = lambda device=None: "rehearsal"
    cuda.get_device_capability = lambda device=None: (9, 0)
    cuda.is_bf16_supported = lambda including_emulation=True: True
    low._cuda_getDevice = lambda: shim.rehearsal_exchange_device(-1)
    low._cuda_exchangeDevice = lambda i: shim.rehearsal_exchange_device(i)
    low._cuda_maybeExchangeDevice = lambda i: shim.rehearsal_exchange_device(i)
    low._cuda_setDevice = lambda i: shim.rehearsal_exchange_device(i) and None
    cuda._exchange_device = low._cuda_exchangeDevice
    cuda._maybe_exchange_device = low._cuda_maybeExchangeDevice


def replace_memory() -> None:
    cuda = torch.cuda
    limits = [TOTAL] * N_DEVICES

    def limit_memory(fraction, device=None):
        index = streams.device_of(device).index
        limits[index] = int(fraction * TOTAL)
        shim.rehearsal_set_limit(index, limits[index])

    def memory_of(ask):
        return lambda device=None: ask(streams.device_of(device).index)

    for index in range(N_DEVICES):
        limit_memory(1.0, index)
    cuda.set_per_process_memory_fraction = limit_memory
    cuda.empty_cache = lambda: None
    cuda.mem_get_info = memory_of(lambda i: (limits[i] - shim.rehearsal_allocated(i), TOTAL))
    cuda.memory_allocated = memory_of(shim.rehearsal_allocated)
    cuda.memory_reserved = memory_of(shim.rehearsal_allocated)
    cuda.max_memory_allocated = memory_of(shim.rehearsal_peak)
    cuda.reset_peak_memory_stats = memory_of(shim.rehearsal_reset_peak)


def replace_streams() -> None:
    cuda = torch.cuda

    def set_sync_debug_mode(mode):
        names = {"default": 0, "warn": 1, "error": 2}
        streams.sync_debug_mode = names.get(mode, mode)

    cuda.set_sync_debug_mode = set_sync_debug_mode
    cuda.get_sync_debug_mode = lambda: streams.sync_debug_mode
    cuda.synchronize = streams.synchronize
    cuda.Stream, cuda.Event, cuda.stream = streams.Stream, streams.Event, streams.in_stream
    cuda.current_stream, cuda.default_stream = streams.current_stream, streams.default_stream
    cuda.set_stream = torch.accelerator.set_stream


def storage_on_cuda(storage, location):
    """Put the memory of a tensor that is unpickled on the device that the file names."""
    if not location.startswith("cuda"):
        return None
    held = torch.empty(storage.nbytes(), dtype=torch.uint8, device=location)
    return held.copy_(torch.empty(0, dtype=torch.uint8).set_(storage)).untyped_storage()


def clone_of_storage(storage):
    if storage.device.type != "cuda":
        return type(storage)(storage.nbytes()).copy_(storage)
    source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    return source.clone().untyped_storage()


def held_blocks() -> set[int]:
    """Return the numbers of the blocks of memory in use."""
    n = shim.rehearsal_held(None, 0)
    numbers = (ctypes.c_int64 * n)()
    return set(numbers[: min(n, shim.rehearsal_held(numbers, n))])


@contextlib.contextmanager
def watch_allocations(report: Callable[[int, str], None], within: str = PACKAGE) -> Iterator[None]:
    """Report size and line of the blocks that are allocated within the context and held after."""
    blocks: dict[int, tuple[int, str]] = {}

    @ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)
    def listen(number, size):
        if size:
            blocks[number] = size, line_of(sys._getframe(), within)

    shim.rehearsal_listen(listen)
    try:
        yield
    finally:
        shim.rehearsal_listen(None)
        held = held_blocks()
        for number, (size, line) in blocks.items():
            if number in held:
                report(size, line)
