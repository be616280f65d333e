"""The machine of a fit: the device, its precision, its compiler."""

import importlib.util
import os
import re
import shutil
from typing import Any

import torch

from skimbal.classifiers.parameters import (
    CUDA_SETTINGS,
    LOW_PRECISION,
    CNNClassifier,
    check_parameters,
)
from skimbal.exceptions import ParameterError, shown, warn_caller
from skimbal.generators import has_generator
from skimbal.training import Alone, Processes, device_type, is_cuda, join, with_index
from skimbal.typing import is_integer

__all__ = ["check_device", "check_machine", "prepare_machine"]

#: Modes of torch.compile whose options include CUDA graphs.
_GRAPH_MODES = ("reduce-overhead", "max-autotune")


def prepare_machine(estimator: CNNClassifier, warns: bool) -> tuple[str, Processes]:
    """Return the device of a fit, with its number, and the processes that train.

    Refuses parameters that cannot work on this machine, and warns of slow ones if ``warns``.
    """
    check_machine(estimator)
    device = _named_device(estimator.device)
    device, processes = join(device) if estimator.distributed else (device, Alone())
    device = with_index(device)
    if warns:
        _warn_of_emulation(estimator, device)
    return device, processes


def check_machine(estimator: CNNClassifier) -> None:
    """Refuse parameters that cannot work, alone or together, anywhere or on this machine."""
    check_parameters(estimator)
    for name in CUDA_SETTINGS:
        value = (estimator.net or {}).get(name)
        if not isinstance(value, bool | None):
            raise ParameterError("net", f"a dict whose {name} is True, False or None", value)
    device = device_type(check_device(estimator.device, launched=estimator.distributed))
    _check_precision(estimator, device)
    if estimator.compile:
        _check_compiler(estimator, device)


def _named_device(device: object) -> str:
    """Return the name of a device, which may have no number."""
    if isinstance(device, str) and device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    is_known = device is not None and not isinstance(device, bool)  # True would be 1
    return str(torch.device(device if is_known else ""))  # type: ignore[call-overload]


def check_device(device: object, launched: bool = False) -> str:
    """Return a device that torch can use here, by its name and number.

    A process that a launcher has started with others is given its number later.
    """
    try:
        name = _named_device(device)
        if launched and name == "cuda" and torch.cuda.is_available():
            return name
        name = with_index(name)
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        # The next sentences of torch are about its developers and list all its backends.
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise ParameterError(
            "device",
            "'cpu', 'auto' or a device that torch can use here",
            device,
            _meant_device(device)
            # A list of all devices that any torch may have says nothing.
            + (
                ""
                if reason.startswith("Expected one of")
                else f" Torch says: {reason.rstrip('.')}."
            ),
        ) from None
    if not has_generator(name):
        raise ParameterError(
            "device",
            "'cpu', 'auto' or a device whose random numbers torch can repeat, such as 'cuda', "
            "'xpu' and 'mps'",
            device,
            "Batches in parts and test-time augmentation draw the same numbers several times.",
        )
    return name


def _meant_device(device: object) -> str:
    """Name the text to write in place of a device that torch cannot use here."""
    text = (device if isinstance(device, str) else shown(device)).lower()
    n_devices = torch.cuda.device_count()
    number = re.search(r"\d+", text)
    is_cuda = is_integer(device) or re.search("gpu|cuda|nvidia", text) or device is True
    if not is_cuda:
        remedy = "Write device='cpu', or device='auto' for CUDA where there is a CUDA device."
        return f"Torch finds no GPU of Apple here. {remedy}" if text == "mps" else remedy
    if not torch.cuda.is_available():
        build = "" if torch.version.cuda else ", and this torch is a build without CUDA"
        return (
            f"There are {n_devices} CUDA device(s) on this machine{build}. Write device='cpu', or "
            "device='auto' for CUDA where there is a CUDA device."
        )
    index = f":{number[0]}" if number and int(number[0]) < n_devices else ""
    return (
        f"There are {n_devices} CUDA device(s) on this machine, from 'cuda:0' to "
        f"'cuda:{n_devices - 1}'. Write device='cuda{index}'."
    )


def _has_float64(device: str) -> bool:
    try:
        torch.empty(1, device=device, dtype=torch.float64)
    except (RuntimeError, TypeError):
        return False
    return True


def _check_precision(estimator: CNNClassifier, device: str) -> None:
    possible = ["float32"]
    if _has_float64(device):
        possible.append("float64")
    if torch.amp.is_autocast_available(device):
        possible += LOW_PRECISION
    if estimator.dtype not in ("auto", *possible):
        raise ParameterError(
            "dtype",
            f"'auto', {', '.join(map(repr, possible))} on device={estimator.device!r}",
            estimator.dtype,
        )
    if estimator.dtype == "bfloat16" and device == "cpu" and len(estimator.spatial_axes) == 3:
        # Seen with torch 2.13: the weight gradient of a 3 x 3 x 3 kernel over 2 x 2 x 2 voxels
        # is noise of any size, and different in each call.
        raise ParameterError(
            "dtype",
            "'auto', 'float32', 'float64' or 'float16' for volumes on the CPU",
            estimator.dtype,
            "Torch computes wrong gradients of convolutions over few voxels in bfloat16 there. Use "
            "another dtype, or a GPU.",
        )


def _warn_of_emulation(estimator: CNNClassifier, device: str) -> None:
    """Warn of a dtype that the GPU does not compute in."""
    if estimator.dtype != "bfloat16" or not is_cuda(device) or torch.version.hip is not None:
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        warn_caller(
            f"dtype='bfloat16' is emulated on {device} ({torch.cuda.get_device_name(device)}), "
            f"which has compute capability {capability[0]}.{capability[1]}: GPUs compute in it "
            "from 8.0 on. Use dtype='float16' or 'float32'."
        )


def _check_compiler(estimator: CNNClassifier, device: str) -> None:
    """Refuse to compile without a compiler that torch can use."""
    given = estimator.net or {}
    options = {n[9:]: value for n, value in given.items() if n.startswith("compile__")}
    backend = options.get("backend", "inductor")
    if device == "cuda":
        _refuse_cuda_graphs(backend, options)
    if backend != "inductor":
        known = torch.compiler.list_backends(exclude_tags=())
        if isinstance(backend, str) and backend not in known:
            raise ParameterError(
                "net",
                f"a dict whose compile__backend is a function or one of {', '.join(sorted(known))}",
                backend,
            )
        return
    if device == "cpu":
        names = [os.environ.get("CXX", "c++"), "c++", "g++", "clang++", "cl"]
        missing = "" if any(map(shutil.which, names)) else "a C++ compiler in PATH"
    else:
        needs_triton = device in ("cuda", "xpu") and importlib.util.find_spec("triton") is None
        missing = "the package triton" if needs_triton else ""
    if missing:
        raise ParameterError(
            "compile",
            f"False without {missing}",
            True,
            f"Install {missing.partition(' in ')[0]}, or compile without it by "
            "net={'compile__backend': 'aot_eager'}.",
        )


def _refuse_cuda_graphs(backend: object, options: dict[str, Any]) -> None:
    """Refuse to replay a network from a CUDA graph, whose outputs share their memory.

    The next batch would overwrite the logits and gradients that training keeps, such as those of
    micro-batches and of validation rows.
    """
    mode, of_inductor = options.get("mode"), options.get("options")
    found = None
    if backend == "cudagraphs":
        found = f"compile__backend={backend!r}"
    elif backend == "inductor" and mode in _GRAPH_MODES:
        found = f"compile__mode={mode!r}"
    elif backend == "inductor":
        # Here, as it takes seconds. The compiler needs it anyway.
        import torch._inductor.config as config

        known = of_inductor if isinstance(of_inductor, dict) else {}
        if known.get("triton.cudagraphs", config.triton.cudagraphs):
            found = "triton.cudagraphs=True of torch._inductor"
    if found is not None:
        raise ParameterError(
            "net",
            "a dict that compiles without CUDA graphs",
            found,
            "The next replay of a graph overwrites the logits and gradients that training keeps. "
            "Use compile__mode='max-autotune-no-cudagraphs', or leave it out.",
        )
