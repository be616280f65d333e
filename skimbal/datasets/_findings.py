"""Doubts about a data set, in sentences."""

import os
from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from skimbal.datasets._measuring import Measured
from skimbal.datasets._screen import format_number
from skimbal.datasets.copies import spanning
from skimbal.datasets.labels import Missing
from skimbal.datasets.splits import check_classes_of_parts, order_of_parts, shared_groups
from skimbal.wording import agree, plural

__all__ = [
    "Finding",
    "InspectedImages",
    "doubts",
    "groups_on_both_sides",
    "labels_of_parts",
    "notes_of",
]

#: A property tells a class if this share of the class has it, and the others almost never.
_SHARE = 0.9
#: Fewest images of which such a share is not an accident.
_FEWEST = 10
#: Bright images of one scale have at most so many times the greatest number of dark images.
_MOST_OF_A_SCALE = 5.0


class Finding(NamedTuple):
    """A sentence about a data set, and the files or rows that it is about.

    Parameters
    ----------
    text : str
        The sentence or sentences.
    places : tuple of str, default=()
        All files or rows, with a reason for each where the reasons differ.
    error : ValueError or OSError, default=None
        The error that a loader raises, if the sentence is its message.

    Examples
    --------
    >>> from skimbal.datasets import Finding
    >>> Finding("2 images have one value everywhere.", ("a.png", "b.png")).places
    ('a.png', 'b.png')
    """

    text: str
    places: tuple[str, ...] = ()
    error: ValueError | OSError | None = None


@dataclass(frozen=True)
class InspectedImages:
    """Images with all that is known of them. Columns that are not known hold None."""

    names: list[str]
    labels: list[str]
    groups: list[str | None]
    splits: list[str | None]
    formats: list[str | None]
    measured: list[Measured | None]

    def take(self, rows: Sequence[int]) -> "InspectedImages":
        """Return some of the images."""
        columns = [getattr(self, field.name) for field in fields(self)]
        return InspectedImages(*([column[i] for i in rows] for column in columns))


def doubts(
    images: InspectedImages, copies: list[list[int]], missing: Missing, *, is_one_scale: bool
) -> list[Finding]:
    """Return the reasons to doubt scores on these images, the worst first."""
    return [
        *_parts_of_copies(images, copies),
        *groups_on_both_sides(images),
        *_classes_of_copies(images, copies),
        *_groups_of_copies(images, copies),
        *_other_copies(images, copies),
        *(Finding(note[:1].upper() + note[1:]) for note in notes_of(images, missing)),
        *_constant_images(images),
        *([] if is_one_scale else _unequal_scales(images)),
        *_doubtful_files(images),
        *_properties_of_classes(images),
    ]


def _show(images: InspectedImages, same: list[int], column: Sequence[object] | None = None) -> str:
    """Name up to three copies, and their values in a column where the names do not hold them."""
    ordered = sorted(same, key=lambda i: (order_of_parts(str(images.splits[i])), i))
    # A copy of each value comes first.
    values = [None if column is None else column[i] for i in ordered]
    places = sorted(range(len(ordered)), key=lambda k: values.index(values[k]) != k)[:3]
    shown = []
    for k in places:
        name = images.names[ordered[k]]
        is_told = values[k] is None or str(values[k]) in name.replace(os.sep, " ").split(" ")
        shown.append(name if is_told else f"{name} ({values[k]})")
    more = f" and {len(same) - len(shown)} more" if len(same) > len(shown) else ""
    return " = ".join(shown) + more


def _parts_of_copies(images: InspectedImages, copies: list[list[int]]) -> list[Finding]:
    by_parts: dict[tuple[str, ...], list[list[int]]] = {}
    for same in spanning(copies, images.splits.__getitem__):
        parts = tuple(dict.fromkeys(str(images.splits[i]) for i in same))
        by_parts.setdefault(tuple(sorted(parts, key=order_of_parts)), []).append(same)
    return [
        Finding(
            f"{plural(len(found), 'picture')} {agree(len(found), 'is', 'are')} in "
            f"{' and in '.join(parts)}. Scores on {parts[-1]} will be too high.",
            tuple(_show(images, same, images.splits) for same in found),
        )
        for parts, found in sorted(by_parts.items(), key=lambda item: "test" not in item[0])
    ]


def groups_on_both_sides(images: InspectedImages) -> list[Finding]:
    """Find groups in two parts of a split."""
    members: dict[str, set[str]] = {}
    for group, split in zip(images.groups, images.splits, strict=True):
        if group is not None and split is not None:
            members.setdefault(split, set()).add(group)
    return [Finding(text, tuple(shared)) for text, shared in shared_groups(members)]


def _classes_of_copies(images: InspectedImages, copies: list[list[int]]) -> list[Finding]:
    found = spanning(copies, images.labels.__getitem__)
    text = (
        f"{plural(len(found), 'picture')} {agree(len(found), 'has', 'have')} two or more classes."
    )
    places = tuple(_show(images, same, images.labels) for same in found)
    return [Finding(text, places)] if found else []


def _groups_of_copies(images: InspectedImages, copies: list[list[int]]) -> list[Finding]:
    found = spanning(copies, images.groups.__getitem__)
    text = (
        f"{plural(len(found), 'picture')} {agree(len(found), 'is', 'are')} in two or more groups, "
        "such as patients."
    )
    places = tuple(_show(images, same, images.groups) for same in found)
    return [Finding(text, places)] if found else []


def _other_copies(images: InspectedImages, copies: list[list[int]]) -> list[Finding]:
    def facts(i: int) -> Hashable:
        return images.splits[i], images.labels[i], images.groups[i]

    spread = spanning(copies, facts)
    named = {same[0] for same in spread}
    found = [same for same in copies if same[0] not in named]
    text = (
        f"{plural(len(found), 'other picture' if spread else 'picture')} "
        f"{agree(len(found), 'occurs', 'occur')} more than once."
    )
    if found and images.groups[found[0][0]] is None:
        text += " A cross-validation may train on one copy and test on another."
    return [Finding(text, tuple(_show(images, same) for same in found))] if found else []


def notes_of(images: InspectedImages, missing: Missing) -> list[str]:
    """Return the notes of a loader on names of classes and groups, and on parts without a class."""
    notes = missing.notes(images.labels, "classes")
    with suppress(ValueError):  # a loader refuses it
        notes += check_classes_of_parts(labels_of_parts(images), "data")
    return notes + missing.notes([group for group in images.groups if group], "groups")


def labels_of_parts(images: InspectedImages) -> dict[str, np.ndarray]:
    """Return the labels of each part of a split."""
    labels: dict[str, list[str]] = {}
    for part, label in zip(images.splits, images.labels, strict=True):
        labels.setdefault(part or "", []).append(label)
    return {part: np.array(of_part) for part, of_part in labels.items()}


def _constant_images(images: InspectedImages) -> list[Finding]:
    names = tuple(
        name
        for name, image in zip(images.names, images.measured, strict=True)
        if image is not None and image.is_constant
    )
    text = f"{plural(len(names), 'image')} {agree(len(names), 'has', 'have')} one value everywhere."
    return [Finding(text, names)] if names else []


def _unequal_scales(images: InspectedImages) -> list[Finding]:
    """Find images whose numbers have other orders of magnitude than the numbers of others.

    A common full range or unit states that they have one scale.
    """
    known = [image for image in images.measured if image is not None and not image.is_constant]
    highs = [image.high for image in known if image.high is not None]
    kinds = {image.kind[1:] for image in known}
    if len(highs) < 2 or (len(kinds) == 1 and kinds != {(None, None)}):
        return []
    # A few dark or bright images are not another scale.
    low, high = np.percentile(np.abs(highs), (10, 90)).tolist()
    if high <= _MOST_OF_A_SCALE * low:
        return []
    least, most = format_number(min(highs)), format_number(max(highs))
    text = (
        f"The images may have different scales: the greatest number of an image is between {least} "
        f"and {most}. For files, intensity= brings them to one scale."
    )
    return [Finding(text)]


def _doubtful_files(images: InspectedImages) -> list[Finding]:
    """Collect the doubts of readers, each with the files that it is about."""
    names: dict[str, list[str]] = {}
    for name, image in zip(images.names, images.measured, strict=True):
        if image is not None and image.doubt is not None:
            names.setdefault(image.doubt, []).append(name)
    return [
        Finding(f"{plural(len(of_doubt), 'image')}: {doubt}.", tuple(of_doubt))
        for doubt, of_doubt in names.items()
    ]


def _properties_of_classes(images: InspectedImages) -> list[Finding]:
    """Find classes that a property of the files tells without a look at the pixels."""
    columns: dict[str, list[Hashable]] = {"format": list(images.formats)}
    for name in ("shape", "dtype", "spacing", "unit"):
        columns[name] = [None if m is None else getattr(m, name) for m in images.measured]
    totals = Counter(images.labels)
    places = []
    for name, column in columns.items():
        of_value = Counter(column)
        for (value, label), n in Counter(zip(column, images.labels, strict=True)).items():
            n_others = len(column) - totals[label]
            elsewhere = (of_value[value] - n) / max(1, n_others)
            tells = n >= _SHARE * totals[label] and elsewhere <= 1 - _SHARE
            if tells and min(n, n_others) >= _FEWEST:
                places.append(
                    f"{label}: {name} {value} in {n / totals[label]:.0%} of its images and in "
                    f"{elsewhere:.0%} of the others"
                )
    text = (
        f"{plural(len(places), 'property', 'properties')} of the files "
        f"{agree(len(places), 'tells', 'tell')} a class. A network may learn this instead of the "
        "picture."
    )
    return [Finding(text, tuple(places))] if places else []
