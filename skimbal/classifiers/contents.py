"""Checks of the attributes that a classifier has from a file, or that go into a file."""

import math
from collections.abc import Iterator, Mapping
from typing import Protocol, TypeAlias

import numpy as np
from torch import nn

from skimbal.classifiers.parameters import (
    CONSTRAINTS,
    CNNClassifier,
    NotKept,
    check_constraints,
)
from skimbal.classifiers.prior import RowsSeen
from skimbal.images import InputForm
from skimbal.training import Blueprint
from skimbal.typing import is_integer, is_number

__all__ = ["check_attributes", "check_names", "check_net"]

_SHOWN = 200


class WithAttributes(CNNClassifier, Protocol):
    """A classifier with the attributes that a file holds."""

    classes_: np.ndarray
    input_shape_: tuple[int, ...]
    n_features_in_: int
    input_: InputForm
    _seed: int
    _class_mass: np.ndarray
    _seen: RowsSeen
    _epochs_before: int
    _known_tau: float | None


def check_names(given: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Refuse parameters that are missing: a default may be another value than that of the fit."""
    missing = sorted(set(known) - set(given))
    if missing:
        raise ValueError(f"there is no value of {', '.join(missing)}")


def check_attributes(estimator: WithAttributes, blueprint: Blueprint) -> None:
    """Refuse attributes of another type, or that do not fit each other and the network.

    They come from a file with a right checksum, which another program may have written, or from a
    user who has set them.
    """
    # Any parameter may have been set after the fit, and a later fit reads all of them.
    given = {name: getattr(estimator, name) for name in CONSTRAINTS if name != "module"}
    kept = [name for name, value in given.items() if not isinstance(value, NotKept)]
    check_constraints(estimator, kept)
    for check in (_of_images, _of_classes, _of_training):
        for name, expected, value, is_right in check(estimator, blueprint):
            if not is_right:
                raise ValueError(f"{name} must be {expected}; got {repr(value)[:_SHOWN]}")


#: The name of an attribute, the right values in words, its value, and whether that is right.
_Checked: TypeAlias = tuple[str, str, object, bool]


def _of_images(estimator: WithAttributes, blueprint: Blueprint) -> Iterator[_Checked]:
    shape, axes = blueprint.sample_shape, tuple(estimator.spatial_axes)
    are_sizes = _are_integers(shape) and len(shape) == 1 + len(axes)
    yield "the shape of an image", f"a number of channels and {', '.join(axes)}", shape, are_sizes
    given, form, n = estimator.input_shape_, estimator.input_, math.prod(shape)
    yield "input_shape_", str(shape), given, isinstance(given, tuple) and given == shape
    of_form = form.shape, form.axes
    yield "input_", f"a form of images of {(shape, axes)}", of_form, of_form == (shape, axes)
    pixels = form.pixels
    is_right = pixels is None or len(pixels.least) == shape[0]
    yield "input_.pixels", f"numbers of {shape[0]} channels", pixels, is_right
    n_features = estimator.n_features_in_
    yield "n_features_in_", str(n), n_features, is_integer(n_features) and n_features == n
    names = getattr(estimator, "feature_names_in_", None)
    is_right = names is None or _is_vector(names, n)
    yield "feature_names_in_", f"None or {n} names", names, is_right


def _of_classes(estimator: WithAttributes, blueprint: Blueprint) -> Iterator[_Checked]:
    n, labels, mass = blueprint.n_classes, estimator.classes_, estimator._class_mass
    are_right = _is_vector(labels, n) and len(np.unique(labels)) == n
    yield "classes_", f"an array of {n} different labels", labels, are_right
    numbers = f"{n} numbers of at least 0"
    are_right = _are_masses(mass, n) and bool(mass.any())
    yield "the weights of the classes", f"{numbers}, not all of them zero", mass, are_right
    for part in estimator._seen:
        is_right = isinstance(part, str) or _are_masses(part, n)
        yield "the rows that the loss has seen", f"text or {numbers}", part, is_right


def _of_training(estimator: WithAttributes, blueprint: Blueprint) -> Iterator[_Checked]:
    seed, before, tau = estimator._seed, estimator._epochs_before, estimator._known_tau
    is_right = is_integer(seed) and 0 <= seed < 2**32
    yield "the seed", "a whole number from 0 to 2^32 - 1", seed, is_right
    is_right = is_integer(before) and before >= 0
    yield "the epochs before", "a whole number of at least 0", before, is_right
    yield "the tau of the loss", "a number or None", tau, tau is None or is_number(tau)
    size, halves = blueprint.micro_batch_size, blueprint.halves_micro_batches
    is_right = size is None or (is_integer(size) and size > 0)
    yield "micro_batch_size of the net", "a whole number of at least 1 or None", size, is_right
    yield "halves_micro_batches", "True or False", halves, isinstance(halves, bool)


def check_net(facts: Mapping[str, object], steps: object) -> None:
    """Refuse facts of a net that are of another type, and changes of images that are none."""
    size, n, layer = facts["activation_bytes"], facts["n_features"], facts["feature_layer"]
    before, has_schedule = facts["epochs_before"], facts["has_schedule"]
    heads = facts.get("head_trainings", [])
    are_right = {
        "activation_bytes": size is None or (is_integer(size) and size > 0),
        "n_features": n is None or (is_integer(n) and n > 0),
        "feature_layer": isinstance(layer, str | None),
        "epochs_before": is_integer(before) and before >= 0,
        "has_schedule": isinstance(has_schedule, bool),
        "head_trainings": isinstance(heads, list) and all(map(_are_facts, heads)),
        "augmentation": isinstance(steps, list) and all(isinstance(s, nn.Module) for s in steps),
    }
    wrong = [name for name, is_right in are_right.items() if not is_right]
    if wrong:
        raise ValueError(f"the net has values of another type: {', '.join(wrong)}")


def _are_facts(value: object) -> bool:
    """Tell whether a value holds texts and numbers by name."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and (isinstance(fact, str) or is_number(fact))
        for name, fact in value.items()
    )


def _is_vector(value: object, length: int) -> bool:
    return isinstance(value, np.ndarray) and value.shape == (length,)


def _are_masses(value: object, length: int) -> bool:
    return (
        isinstance(value, np.ndarray)
        and _is_vector(value, length)
        and value.dtype.kind in "iuf"
        and bool((value >= 0).all())
    )


def _are_integers(values: object) -> bool:
    return isinstance(values, tuple) and all(is_integer(n) and n > 0 for n in values)
