"""ONNX files of fitted classifiers: their metadata, and the check against predictions."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from skimbal.atomic import check_target, write_file
from skimbal.classifiers.inputs import InputClassifier
from skimbal.classifiers.parameters import check_n_tta
from skimbal.classifiers.trials import PredictingClassifier, correction_at_prediction
from skimbal.exceptions import ExportError, ParameterError, warn_caller
from skimbal.export import TOLERANCE, Export, Graph, export
from skimbal.images import InputForm
from skimbal.training import (
    ImageDataset,
    TrainingNet,
    device_type,
    isolated_random_state,
    plain_torch,
    softmax,
)
from skimbal.typing import PathLike, is_integer

__all__ = ["ExportableClassifier", "export_classifier"]

#: Version of the keys of the metadata.
_FORMAT = "1"
#: Images that a file is checked with, and numbers in an image above which these are two.
_N_IMAGES, _LARGE = 4, 2**20


class ExportableClassifier(InputClassifier, PredictingClassifier, Protocol):
    """A fitted classifier."""

    classes_: np.ndarray
    net_: TrainingNet

    @property
    def effective_prior_(self) -> np.ndarray:
        """Shares of the classes that the probabilities refer to."""


def export_classifier(estimator: ExportableClassifier, path: PathLike, n_tta: int | str) -> None:
    """Write an ONNX file of a fitted classifier, after a check of its probabilities."""
    check_target(path)
    net, form = estimator.net_, estimator.input_
    mirrored = _mirrored_axes(estimator, n_tta)
    metadata = _metadata(estimator, "flips" if mirrored else "1")
    correction = correction_at_prediction(estimator)
    data = ImageDataset(_images_like(form, net), sample_shape=form.shape)
    images = data.batch(np.arange(len(data))).images.numpy()
    exported = export(Graph(net.module_, correction, mirrored), images)
    expected = _predicted(net, data, correction, mirrored)
    difference = float(np.abs(exported.probabilities - expected).max())
    if not difference <= TOLERANCE:
        _report_difference(net, difference)
    metadata["skimbal.versions"] = exported.versions
    metadata["skimbal.dtype"] = str(images.dtype)
    metadata["skimbal.image_size"] = "any" if exported.any_size else "fixed"
    metadata["skimbal.check"] = _check_in_words(exported, difference)
    write_file(path, exported.to_bytes(metadata))


def _mirrored_axes(estimator: ExportableClassifier, n_tta: int | str) -> list[int]:
    """Return the axes whose mirror images the file averages, and warn of another prediction."""
    net, shape = estimator.net_, estimator.input_shape_[1:]
    axes = net.mirrored_axes(shape)
    of_classifier = check_n_tta(estimator, net.augments, mirrors=len(axes) > 0)
    if not (is_integer(n_tta) and n_tta == 1) and n_tta not in ("flips", "auto"):
        raise ParameterError(
            "n_tta",
            "1, 'flips' or 'auto'",
            n_tta,
            "Passes with random changes have no place in a file.",
        )
    if n_tta == "flips" and not axes:
        raise ParameterError(
            "n_tta",
            "1 or 'auto' after a fit whose augment mirrors no image",
            n_tta,
            "The network has seen no mirror images.",
        )
    chosen = axes if n_tta != 1 else []
    of_file = None if chosen else 1
    if of_file != of_classifier:
        passes = "mirror images" if of_classifier is None else "random passes"
        remedy = "Pass n_tta='flips'" if axes and not chosen else f"Set n_tta={n_tta!r}"
        warn_caller(
            f"The file predicts with n_tta={n_tta!r}, and predict_proba of this "
            f"{type(estimator).__name__} with n_tta={estimator.n_tta!r}"
            + (f", the mean over {passes}" if of_classifier != 1 else "")
            + f". {remedy} for equal probabilities."
        )
    return chosen


def _metadata(estimator: ExportableClassifier, n_tta: str) -> dict[str, object]:
    """Return the description of the file, apart from the facts that the export finds."""
    crop_size = estimator.net_.module_.crop_size
    effective = getattr(estimator, "effective_prior_", None)
    return {
        "skimbal.format": _FORMAT,
        "skimbal.classes": _plain_classes(estimator.classes_),
        "skimbal.input": estimator.input_.to_dict(),
        "skimbal.crop_size": None if crop_size is None else list(crop_size),
        "skimbal.n_tta": n_tta,
        "skimbal.logit_adjustment": float(estimator.logit_adjustment),
        "skimbal.class_prior": estimator.class_prior_.tolist(),
        "skimbal.effective_prior": None if effective is None else effective.tolist(),
    }


def _plain_classes(classes: np.ndarray) -> list[Any]:
    """Return the labels as JSON has them."""
    labels: list[Any] = classes.tolist()
    if not all(isinstance(label, str | bool | int | float) for label in labels):
        raise ExportError(
            "classes_ must hold text, numbers or booleans, which the metadata of a file can name; "
            f"got labels of the type {type(labels[0]).__name__}. Fit to such labels."
        )
    return labels


def _images_like(form: InputForm, net: TrainingNet) -> np.ndarray:
    """Draw images, coarse and fine, in the range of the training images."""
    rng = np.random.default_rng(0)
    shape = (_N_IMAGES if math.prod(form.shape) <= _LARGE else 2, *form.shape)
    per_channel = (-1, *[1] * (len(form.shape) - 1))
    low, high = (np.reshape(ends, per_channel) for ends in _range(form, net))
    coarse = rng.random((*shape[:2], *[4] * (len(shape) - 2)), np.float32)
    for axis, size in enumerate(shape[2:], start=2):
        coarse = coarse.take(np.arange(size) * 4 // size, axis)
    images: np.ndarray = low + (high - low) * (coarse + rng.random(shape, np.float32)) / 2
    dtype = np.dtype(form.dtype)
    return (images.round() if dtype.kind in "biu" else images).astype(dtype)


def _range(form: InputForm, net: TrainingNet) -> tuple[Any, Any]:
    """Return the least and the greatest number of each channel."""
    if form.pixels is not None:
        return form.pixels.least, form.pixels.greatest
    if form.dtype in ("uint8", "bool"):
        return 0, 1 if form.dtype == "bool" else 255
    module = net.module_
    if module.mean is None or module.std is None:
        return 0, 1
    mean, std = (x.detach().double().cpu().numpy().ravel() for x in (module.mean, module.std))
    return mean - 2 * std, mean + 2 * std


def _predicted(
    net: TrainingNet, data: ImageDataset, correction: np.ndarray | None, mirrored: list[int]
) -> np.ndarray:
    """Compute the probabilities as the classifier predicts them."""
    shift = torch.zeros(1) if correction is None else torch.from_numpy(correction)

    def probabilities(logits: torch.Tensor) -> torch.Tensor:
        return softmax(logits - shift.to(logits.device, logits.dtype))

    # A foreign iterator may draw random numbers.
    with plain_torch(), isolated_random_state(0, net.device):
        return net.predict_rows(data, probabilities, net.mirror_passes(mirrored))


def _report_difference(net: TrainingNet, difference: float) -> None:
    """Refuse a file that differs from the classifier, or warn if the classifier is less precise."""
    if net.autocast is None and device_type(net.device) == "cpu":
        raise ExportError(
            f"the ONNX graph must give the probabilities of the classifier up to {TOLERANCE}; got "
            f"a largest difference of {difference:.1e} on images in the range of the training "
            "images. No file was written."
        )
    dtype = net.module_.dtype if net.autocast is None else net.autocast
    warn_caller(
        f"The file computes in float32, and this classifier in {dtype} on {net.device}. On images "
        f"in the range of the training images, probabilities differ by up to {difference:.1e}."
    )


def _check_in_words(exported: Export, difference: float) -> Mapping[str, object]:
    return {
        "n_images": len(exported.probabilities),
        "tolerance": TOLERANCE,
        "difference_from_graph": exported.difference,
        "difference_from_classifier": difference,
    }
