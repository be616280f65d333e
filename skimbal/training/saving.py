"""Parts of a net with tensors, in one piece that torch moves to another device."""

import copy
import io
import pickle
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import FunctionType, SimpleNamespace
from typing import Any

import cloudpickle
import torch
from skorch.exceptions import DeviceWarning

from skimbal.exceptions import warn_caller
from skimbal.training.devices import with_index

__all__ = [
    "device_at_hand",
    "from_bytes",
    "is_being_saved",
    "is_copied",
    "to_bytes",
    "why_not_pickled",
]

#: The net that is being saved or loaded, to which its callbacks may refer.
_NET: ContextVar[object] = ContextVar("_NET")
#: Stands for a net while a callback is tried alone.
_TRIAL = object()


def _present_net() -> object:
    """Return the net that is being loaded."""
    return _NET.get()


class _ByReference(pickle.Pickler):
    """Pickles classes and functions by their names, as Python does."""

    def reducer_override(self, value: object) -> Any:
        """Refer to the net, which would otherwise be saved in itself without end."""
        return (_present_net, ()) if value is _NET.get() else NotImplemented


class _ByValue(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles functions and classes without a name that another process can import."""

    def reducer_override(self, value: object) -> Any:
        """Refer to the net, which would otherwise be saved in itself without end."""
        return (_present_net, ()) if value is _NET.get() else super().reducer_override(value)


class _ForTrial(pickle.Pickler):
    """Tries to pickle a value, except tensors, and code that another pickler may know."""

    def persistent_id(self, value: object) -> str | None:
        """Leave out a value by giving it a name."""
        is_left_out = isinstance(value, type | FunctionType | torch.Tensor) or value is _NET.get()
        return "left out" if is_left_out else None


def to_bytes(net: object, parts: Mapping[str, object]) -> bytes:
    """Save parts of a net, among them callbacks that may refer to the net."""
    token = _NET.set(net)
    try:
        try:
            return _save(parts, _ByReference)
        except (AttributeError, pickle.PicklingError):
            return _save(parts, _ByValue)
    except Exception as error:
        for name, callback in getattr(net, "callbacks_", ()):
            reason = why_not_pickled(name, callback)
            if reason is not None:
                raise TypeError(reason) from error
        raise
    finally:
        _NET.reset(token)


def _save(parts: object, pickler: type[pickle.Pickler]) -> bytes:
    blob = io.BytesIO()
    torch.save(parts, blob, pickle_module=SimpleNamespace(__name__="pickle", Pickler=pickler))
    return blob.getvalue()


def from_bytes(net: object, blob: bytes, location: Any) -> dict[str, Any]:
    """Load parts of a net. References to the net become references to the given net."""
    token = _NET.set(net)
    try:
        # A user who unpickles the net trusts it already. (Older skorch leaves weights_only to the
        # default of torch, which newer torch has turned around.)
        parts: dict[str, Any] = torch.load(
            io.BytesIO(blob), map_location=location, weights_only=False
        )
        return parts
    finally:
        _NET.reset(token)


def device_at_hand(device: str) -> str:
    """Return the device of a saved net, or with a warning a device that is there in its place."""
    known, n_cuda = torch.device(device), 0
    if known.type == "cuda":
        n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (known.index or 0) < n_cuda:
            return with_index(device)
    else:
        with suppress(RuntimeError, AssertionError, ImportError):
            torch.empty(1, device=known)
            return with_index(device)
    other = "cuda:0" if n_cuda else "cpu"
    warn_caller(
        f"The net was on device={device!r}, which torch cannot use here, and is now on {other!r}.",
        DeviceWarning,
    )
    return other


def is_being_saved(net: object) -> bool:
    """Tell whether the net is being saved at present, so that a reference to it is enough."""
    present = _NET.get(None)
    return present is not None and any(present is one for one in (net, _TRIAL))


def why_not_pickled(name: str, callback: object, or_copied: bool = False) -> str | None:
    """Say by name why a callback cannot be pickled, or copied. None if it can."""
    token = _NET.set(_NET.get(_TRIAL))
    try:
        _ForTrial(io.BytesIO()).dump(callback)
    except Exception as error:
        if or_copied and is_copied(callback):
            return None
        return (
            f"the callback {name} of the classifier cannot be pickled or copied: {error}. Define "
            f"__getstate__ in a subclass of {type(callback).__name__}, which leaves out the "
            "attribute that cannot be pickled, such as an open file."
        )
    finally:
        _NET.reset(token)
    return None


def is_copied(value: object) -> bool:
    """Tell whether Python can make a copy of a value."""
    try:
        copy.deepcopy(value)
    except Exception:
        return False
    return True
