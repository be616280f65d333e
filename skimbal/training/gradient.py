"""The gradient of a batch."""

from collections.abc import Mapping
from typing import Any

__all__ = ["split_batch"]


def split_batch(X: Any, n_parts: int) -> list[Any]:
    if not isinstance(X, Mapping):
        return list(X.tensor_split(n_parts))
    parts = zip(*(value.tensor_split(n_parts) for value in X.values()), strict=True)
    return [dict(zip(X, part, strict=True)) for part in parts]
