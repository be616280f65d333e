"""The bunch that the loaders of arrays return."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from skimbal.datasets.arrays import Part
from skimbal.datasets.splits import split_key

__all__ = ["make_bunch"]


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
    )
