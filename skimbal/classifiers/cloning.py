"""Callbacks of clones and copies: a clone has its own, a copy shares them with its net."""

import copy
import types
from collections.abc import Iterable, Mapping
from typing import Any

from sklearn.base import clone
from skorch.callbacks import Callback

from skimbal.exceptions import ParameterError
from skimbal.training import TrainingNet, is_being_saved, is_copied, why_not_pickled

__all__ = ["clone_callbacks", "find_handle", "joined_with_net", "parted_from_net"]


def clone_callbacks(entries: object) -> object:
    """Return the callbacks of a clone: new instances, the same classes."""
    clones: dict[int, object] = {}

    def clone_entry(entry: object) -> object:
        if isinstance(entry, tuple):
            return tuple(clone_entry(part) for part in entry)
        if id(entry) not in clones:  # an instance may be there twice
            is_callback = isinstance(entry, Callback)
            clones[id(entry)] = _clone(entry) if is_callback else clone(entry, safe=False)
        return clones[id(entry)]

    if type(entries) is dict:
        return {name: clone_entry(entry) for name, entry in entries.items()}
    if isinstance(entries, list | tuple):
        return type(entries)(map(clone_entry, entries))
    return clone(entries, safe=False)


def _clone(callback: Callback) -> Callback:
    """Clone a callback as scikit-learn does, or copy it if its constructor takes other names."""
    trial = next((value for value in vars(callback).values() if hasattr(value, "should_prune")), "")
    if trial and not hasattr(callback, "__sklearn_clone__"):
        raise _refusal(callback, "its trial would report to a copy of the study")
    try:
        return clone(callback)
    except Exception as error:  # of any constructor
        reason = str(error)
    handle = find_handle(callback)
    if handle is None:
        try:
            return copy.deepcopy(callback)
        except Exception as error:
            reason = str(error)
    raise _refusal(callback, reason if handle is None else f"its {handle} cannot be copied")


def _refusal(callback: Callback, reason: str) -> ParameterError:
    return ParameterError(
        "callbacks",
        "callbacks that can be cloned, as cross-validation, searches and compare_losses fit "
        "clones of a classifier, each with callbacks of its own",
        callback,
        f"{type(callback).__name__} cannot be cloned: {reason.rstrip('.')}. Give callbacks a class "
        "in place of the instance, such as a subclass whose __init__ makes what cannot be copied: "
        "every fit then makes an instance. Or define __sklearn_clone__(self) in a subclass, which "
        "returns the callback of the clone, and self for an instance that all clones share.",
    )


def find_handle(value: object, path: str = "", seen: set[int] | None = None) -> str | None:
    """Name the attribute that holds a lock, a file or the like, of which a copy would be another.

    Some classes leave such a handle out of their copies, which then write to nowhere. So the
    attributes are looked at, one by one.
    """
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, type | types.FunctionType | str | bytes):
        return None
    seen.add(id(value))
    parts: Iterable[tuple[str, object]]
    if isinstance(value, Mapping):
        parts = [(path, part) for pair in value.items() for part in pair]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = [(path, part) for part in value]
    elif hasattr(value, "__dict__") and not isinstance(value, types.ModuleType):
        if _copies_itself(value):
            return None
        parts = [(path or name, part) for name, part in vars(value).items()]
    else:
        return None if is_copied(value) else path
    return next((found for name, part in parts if (found := find_handle(part, name, seen))), None)


def _copies_itself(value: object) -> bool:
    """Tell whether a class says itself how it is copied, and a copy is the same or well made."""
    kind = type(value)
    if hasattr(kind, "__deepcopy__"):
        return is_copied(value)
    if kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__:
        return False
    try:
        return copy.deepcopy(value) is value  # such as a logger
    except Exception:
        return False


# Copies and pickles --------------------------------------------------------------------------


class _OfNet:
    """The place of a callback that the net of the same classifier has."""

    def __init__(self, index: int) -> None:
        self.index = index


def parted_from_net(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a classifier to copy, with each callback of its net in the net only."""
    callbacks, net = state.get("callbacks"), state.get("net_")
    if not isinstance(callbacks, list | tuple) or is_being_saved(net):
        return dict(state)
    of_net = net.callbacks or () if isinstance(net, TrainingNet) else ()
    places = {id(entry): _OfNet(index) for index, entry in enumerate(of_net)}
    parted: list[object] = [places.get(id(entry), entry) for entry in callbacks]
    for entry in parted:
        callback = entry[-1] if isinstance(entry, tuple) and entry else entry
        if not isinstance(callback, Callback):
            continue
        # Copies are made of the state, too, and a callback may know how it is copied.
        reason = why_not_pickled(type(callback).__name__, callback, or_copied=True)
        if reason is not None:
            raise TypeError(reason)
    return {**state, "callbacks": type(callbacks)(parted)}


def joined_with_net(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a copy, in which classifier and net have the same callbacks."""
    callbacks = state.get("callbacks")
    if not isinstance(callbacks, list | tuple):
        return dict(state)
    joined = [
        state["net_"].callbacks[entry.index] if isinstance(entry, _OfNet) else entry
        for entry in callbacks
    ]
    return {**state, "callbacks": type(callbacks)(joined)}
