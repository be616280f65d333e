"""The bunch that loaders return, and rows of several of its parts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from skimbal.datasets.arrays import Part
from skimbal.datasets.origin import Origin
from skimbal.datasets.splits import split_key
from skimbal.images import ImageArray, concatenate

__all__ = ["join_parts", "make_bunch", "with_class_names"]


def make_bunch(
    parts: Mapping[str, Part],
    *,
    name: str,
    filename: str | None,
    classes: npt.NDArray[np.generic],
    target_names: list[str],
    source: str,
    license: str,
    citation: str,
    origin: Origin | None,
    has_groups: bool = False,
) -> Bunch:
    """Put the parts of a data set and facts about it under the keys that all loaders return."""
    first = next(iter(parts.values()))
    counts = {
        split or "all": [int(np.sum(part.y == label)) for label in classes]
        for split, part in parts.items()
    }
    return Bunch(
        **{split_key("X", split): part.X for split, part in parts.items()},
        **{split_key("y", split): part.y for split, part in parts.items()},
        **{split_key("groups", split): part.groups for split, part in parts.items() if has_groups},
        classes=classes,
        target_names=target_names,
        ndim=first.n_spatial,
        name=name,
        filename=filename,
        DESCR=f"{name}: {first.n_spatial}D images of shape {first.X.shape[1:]}, {first.X.dtype}\n"
        f"Classes: {target_names}\nImages of each class: {counts}\n"
        f"Source: {source}\nLicense: {license}\nCitation: {citation}\n",
        license=license,
        citation=citation,
        origin=origin,
    )


def join_parts(data: Bunch, name: str, parts: Sequence[str]) -> Any:
    """Return the images, labels or groups of parts, one part after the other."""
    arrays = [data[split_key(name, part)] for part in parts]
    if len(arrays) == 1:
        return arrays[0]  # without a copy
    files = all(isinstance(array, ImageArray) for array in arrays)
    return concatenate(arrays) if files else np.concatenate(arrays)


def with_class_names(data: Bunch, y: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return class names for class numbers, where the classes have names."""
    if data.target_names == [str(label) for label in data.classes.tolist()]:
        return y
    return np.asarray(np.array(data.target_names)[np.searchsorted(data.classes, y)])
