"""Training and validation rows."""

import copy
import inspect
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

__all__ = ["groups_argument", "is_fraction", "with_seed"]


def with_seed(cv: Any, seed: int) -> Any:
    """Return a splitter that draws from the seed of the fit, unless it has one or draws nothing."""
    if getattr(cv, "random_state", seed) is None and getattr(cv, "shuffle", True):
        cv = copy.copy(cv)
        cv.random_state = seed
    return cv


def groups_argument(function: Callable[..., Any], groups: np.ndarray | None) -> dict[str, Any]:
    """Return the groups as an argument, where there are some and the function takes them."""
    parameters = inspect.signature(function).parameters.values()
    takes = any(p.name == "groups" or p.kind is p.VAR_KEYWORD for p in parameters)
    return {} if groups is None or not takes else {"groups": groups}


def is_fraction(cv: Any) -> bool:
    return isinstance(cv, Real) and not float(cv).is_integer()
