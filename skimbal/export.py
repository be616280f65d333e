"""ONNX files of fitted networks, from raw pixels to probabilities.

A file holds one graph: the conversion of the pixels, the crop, the standardisation, the network,
the mirror passes, the correction for class frequency and the softmax. Nothing is written before
onnxruntime has computed the same probabilities as the classifier.
"""

import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skimbal.exceptions import ExportError, import_optional
from skimbal.training import StandardizedModule, isolated_random_state, trainable_torch

__all__ = ["INPUT", "OUTPUT", "TOLERANCE", "Export", "Graph", "export"]

#: Names of the input and of the output of a graph.
INPUT, OUTPUT = "images", "probabilities"
#: Largest difference of a probability in the file from the same probability in torch.
TOLERANCE = 1e-5
#: Largest size of a file, in bytes, which the format of ONNX files has.
_LARGEST = 2**31 - 1
#: Sizes at which no axis has one voxel after five halvings, as code for one voxel is special.
_LEAST_EXAMPLE = 64
#: Warnings of torch about the code of its exporter. The check of the graph is stricter.
_NOISE: tuple[tuple[type[Warning], str], ...] = (
    (DeprecationWarning, ""),
    (FutureWarning, ""),
    (UserWarning, "The tensor attributes? .*assigned during export"),
)
_LOGGERS = ("torch", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")


@dataclass(frozen=True, eq=False)
class Graph:
    """All that lies between the raw pixels of images and their probabilities.

    Parameters
    ----------
    module : StandardizedModule
        The network with the conversion of its input. It is not changed.
    shift : ndarray of shape (n_classes,), default=None
        Subtracted from the logits, dimensionless.
    mirrored : sequence of int, default=()
        Spatial axes, over whose mirror images the probabilities are averaged.
    """

    module: StandardizedModule
    shift: np.ndarray | None = None
    mirrored: Sequence[int] = ()


@dataclass(frozen=True, eq=False)
class Export:
    """An ONNX model that has been checked.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    any_size : bool
        Whether images of any size may come in, or only images of the size of the fit.
    difference : float
        Largest difference of a probability between onnxruntime and torch, dimensionless.
    probabilities : ndarray of shape (n_images, n_classes)
        The probabilities of the file for the images of the check.
    versions : dict of str to str
        Versions of the packages.
    """

    model: Any
    any_size: bool
    difference: float
    probabilities: np.ndarray
    versions: Mapping[str, str]

    def to_bytes(self, metadata: Mapping[str, object]) -> bytes:
        """Return the bytes of a file with metadata, whose values become JSON unless they are text.

        Parameters
        ----------
        metadata : dict of str to object
            Entries of ``metadata_props``.

        Returns
        -------
        data : bytes
            The file.
        """
        del self.model.metadata_props[:]
        for key, value in metadata.items():
            text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
            self.model.metadata_props.add(key=key, value=text)
        return _serialized(self.model)


def export(graph: Graph, images: np.ndarray) -> Export:
    """Make an ONNX model, and compare it with torch on some images.

    The batch may have any size. So may the images, if the network takes images of other sizes and
    the model agrees with it on them.

    Parameters
    ----------
    graph : Graph
        The computation.
    images : ndarray of shape (n_images, n_channels, ...)
        At least two images of the size and the dtype of the fit, to compare the results on.

    Returns
    -------
    exported : Export
        The model.

    Raises
    ------
    ImportError
        If a package of the extra ``onnx`` is missing, or torch is older than 2.6.
    ExportError
        If the exporter of torch does not know an operation of the network, onnxruntime cannot run
        the model, or a probability differs by more than 1e-5.
    """
    versions = _import_packages()
    # A network may draw random numbers, also in evaluation mode.
    with trainable_torch(), torch.no_grad(), isolated_random_state(0, "cpu"):
        network = _Probabilities(graph).eval()
        others = _of_other_sizes(network, images)
        if others:
            try:
                model = _traced(network, others[0], any_size=True)
                return _checked(model, network, images, others, versions)
            except ExportError:
                # Such as a network with code for one size. The file says that the size is fixed.
                pass
        model = _traced(network, images, any_size=False)
        return _checked(model, network, images, [], versions)


def _import_packages() -> dict[str, str]:
    """Refuse missing and old packages before the work, and return their versions."""
    names = ("onnx", "onnxscript", "onnxruntime")
    packages = [import_optional(name, "to_onnx", "onnx", beside=names) for name in names]
    if not hasattr(torch.export, "Dim") or not hasattr(torch.export.Dim, "DYNAMIC"):
        raise ImportError(
            f"to_onnx needs torch 2.6 or later; got torch {torch.__version__}. Run pip install "
            '--upgrade "torch>=2.6".'
        )
    skimbal = sys.modules["skimbal"]
    return {module.__name__: str(module.__version__) for module in (skimbal, torch, np, *packages)}


class _Probabilities(nn.Module):
    """Computes probabilities of raw pixels in float32, as the prediction of a classifier does."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        # A copy, which is not compiled, and whose dtype and device may change.
        try:
            module = deepcopy(graph.module).cpu()
        except Exception as error:  # of an attribute of the user's network
            raise ExportError(
                "module must make a network that copy.deepcopy can copy; got "
                f"{type(graph.module.network).__name__}, and the copy says: {_reason(error)}"
            ) from error
        self.pixel_dtype, self.crop_size = module.dtype, module.crop_size
        self.mean, self.std = module.mean, module.std
        self.network = module.network.float()
        shift = None if graph.shift is None else torch.from_numpy(graph.shift).float()
        self.shift: Tensor | None
        self.register_buffer("shift", shift)
        axes = [2 + axis for axis in sorted(graph.mirrored)]
        self.mirrored = [*chain(*(combinations(axes, n) for n in range(1, 1 + len(axes))))]

    def forward(self, images: Tensor) -> Tensor:
        """Compute the probabilities of images, of shape (n_images, n_classes)."""
        # First, as torch cannot index all unsigned integers.
        x = self._cropped(images.to(self.pixel_dtype))
        if self.mean is not None and self.std is not None:
            # In the dtype of the classifier: pixels of float64 may differ by less than float32 has.
            x = (x - self.mean) / self.std
        x = x.float()
        passes = [x, *(x.flip(axes) for axes in self.mirrored)]
        logits = self.network(torch.cat(passes) if self.mirrored else x)
        if self.mirrored:
            by_pass = logits.log_softmax(-1).unflatten(0, (len(passes), -1))
            logits = by_pass.logsumexp(0)  # the mean but for a constant
        if self.shift is not None:
            logits = logits - self.shift
        if images.is_floating_point():
            # An activation may hide pixels that are not finite. The classifier refuses them, so the
            # probabilities of such an image are NaN.
            logits = logits + (x - x).flatten(1).sum(1, keepdim=True)
        probabilities: Tensor = logits.softmax(-1)
        return probabilities

    def _cropped(self, images: Tensor) -> Tensor:
        """Return the window in the centre. Images that are smaller end in an error."""
        if self.crop_size is not None:
            for axis, size in enumerate(self.crop_size, start=2):
                start = (images.shape[axis] - size) // 2
                # Not a slice, whose start may be negative in ONNX, where it means another place.
                images = images.index_select(axis, torch.arange(size) + start)
        return images


def _of_other_sizes(network: nn.Module, images: np.ndarray) -> list[np.ndarray]:
    """Return images of larger sizes if the network takes them, the largest first.

    Axes of one voxel stay as they are. Smaller images do not test it, as a normalisation over a few
    voxels multiplies rounding errors.
    """
    sizes = images.shape[2:]
    largest = [max(size, _LEAST_EXAMPLE) + 7 + axis for axis, size in enumerate(sizes)]
    # Of the largest sizes and these, one is odd along each axis: code may round halves.
    larger = [size + 1 + (size + other) % 2 for size, other in zip(sizes, largest, strict=True)]
    others = [
        _resized(images, [new if old > 1 else 1 for new, old in zip(other, sizes, strict=True)])
        for other in (largest, larger)
    ]
    try:
        for other in others:
            network(torch.from_numpy(other[:1]))
    except Exception:  # code of a network may raise anything for a size that it does not take
        return []
    return others


def _resized(images: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Repeat images as tiles, up to other sizes."""
    for axis, size in enumerate(sizes, start=2):
        images = images.take(np.arange(size) % images.shape[axis], axis)
    return images


def _traced(network: nn.Module, images: np.ndarray, any_size: bool) -> Any:
    """Let torch translate a network."""
    axes = [0, *(axis for axis in range(2, images.ndim) if any_size and images.shape[axis] > 1)]
    dynamic = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    example = torch.from_numpy(images)
    try:
        with _silent():
            program = torch.export.export(
                network, (example,), dynamic_shapes=(dynamic,), strict=False
            )
            onnx_program = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        assert onnx_program is not None
        return _cleaned(onnx_program.model_proto)
    except Exception as error:  # the exporter has no base class of errors
        raise ExportError(
            "module must make a network that the ONNX exporter of torch can translate; got "
            f"{type(_inner(network)).__name__}, and the exporter says: {_reason(error)}"
        ) from error


def _inner(network: Any) -> nn.Module:
    inner: nn.Module = network.network
    return inner


def _reason(error: BaseException) -> str:
    """Return the first lines of the cause of an error of the exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:400]}"


def _cleaned(model: Any) -> Any:
    """Name the axes, and remove lines of code of this machine and shapes of inner results."""
    for part in (model.graph, *model.functions):
        for item in (part, *part.node):
            del item.metadata_props[:]
        del part.value_info[:]
    axes = _dims(model.graph.input[0])
    for dim, name in zip(axes, "nc" + "dhw"[2 - len(axes) :], strict=True):
        if dim.dim_param:
            dim.dim_param = name
    _dims(model.graph.output[0])[0].dim_param = "n"
    return model


def _dims(value: Any) -> Any:
    return value.type.tensor_type.shape.dim


def _checked(
    model: Any,
    network: nn.Module,
    images: np.ndarray,
    others: Sequence[np.ndarray],
    versions: Mapping[str, str],
) -> Export:
    """Compare onnxruntime with torch, for batches of several sizes."""
    run = _session(model)
    probabilities, difference = None, 0.0
    for batch in (images, images[:1], *(other[:n] for n, other in enumerate(others, start=1))):
        expected = network(torch.from_numpy(batch)).numpy()
        try:
            (found,) = run(None, {INPUT: batch})
        except Exception as error:  # onnxruntime has a class of errors for each cause
            raise ExportError(_cannot_run(network, error)) from error
        fits = found.shape == expected.shape
        difference = max(difference, float(np.abs(found - expected).max()) if fits else np.inf)
        probabilities = found if probabilities is None else probabilities
        if not difference <= TOLERANCE:
            raise ExportError(
                f"module must make a network whose ONNX graph predicts the same up to {TOLERANCE}; "
                f"got {type(_inner(network)).__name__}, with a largest difference of "
                f"{difference:.1e} between onnxruntime and torch for images of shape "
                f"{batch.shape}. No file was written."
            )
    assert probabilities is not None
    return Export(model, bool(others), difference, probabilities, versions)


def _cannot_run(network: nn.Module, error: BaseException) -> str:
    return (
        "module must make a network whose ONNX graph onnxruntime can run; got "
        f"{type(_inner(network)).__name__}, and onnxruntime says: {_reason(error)}"
    )


def _session(model: Any) -> Any:
    """Return the method of onnxruntime that runs a model on one thread of the CPU."""
    onnxruntime = import_optional("onnxruntime", "to_onnx", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            _serialized(model), options, providers=["CPUExecutionProvider"]
        )
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            f"onnxruntime must be able to load the graph; it says: {_reason(error)}"
        ) from error
    return session.run


def _serialized(model: Any) -> bytes:
    size = model.ByteSize()
    if size > _LARGEST:
        raise ExportError(
            f"module must make a network of at most 2 GiB, as an ONNX file holds no more; got "
            f"{size / 2**30:.1f} GiB."
        )
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@contextmanager
def _silent() -> Iterator[None]:
    """Hide the noise of the exporter, which warns of its own code, logs and prints."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        for category, message in _NOISE:
            warnings.filterwarnings("ignore", message, category)
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
