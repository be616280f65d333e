"""Finished fits on disk. Only a study of the same data and parameters continues with them."""

import functools
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skimbal.exceptions import ParameterError
from skimbal.fingerprints import UndescribedError, code_digest, installed_version
from skimbal.images import ImageArray
from skimbal.study.scores import Fit
from skimbal.typing import Fingerprinted, PathLike

__all__ = ["FitCache", "describe", "describe_images", "digest", "text_digest"]

_META, _FITS = "study.json", "fits.jsonl"


class FitCache:
    """A folder with a description of a study, and a line for each finished fit."""

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        self._meta: dict[str, Any] | None = None
        meta = self.folder / _META
        if meta.is_file():
            try:
                self._meta = json.loads(meta.read_text("utf-8"))
                self.seed: int | None = int(self._meta["seed"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"cache_dir: {meta} is damaged, or is not a file of a study ({error!r}). Give "
                    "another folder, or remove this folder."
                ) from error
            return
        self.seed = None
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise ParameterError(
                "cache_dir",
                "a new or empty folder, or the folder of an earlier study",
                str(self.folder),
                "It holds files, but not the files of a study.",
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(
                f"cache_dir must be a folder; got {str(self.folder)!r}, which is a file."
            )

    def open(self, fingerprint: dict[str, Any]) -> dict[str, Fit]:
        """Make the folder, or check that it belongs to this study. Return its fits."""
        if self._meta is not None:
            self._check_same(fingerprint)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / _FITS).open("a", encoding="utf-8"):
                pass
            if self._meta is None:
                part = self.folder / f"{_META}.part"
                part.write_text(json.dumps(fingerprint, indent=1), "utf-8")
                part.replace(self.folder / _META)
        except OSError as error:
            raise type(error)(
                f"cache_dir must be a folder that can be made or written to; got "
                f"{str(self.folder)!r} ({error}). Give another folder."
            ) from error
        return self._read()

    def _check_same(self, fingerprint: dict[str, Any]) -> None:
        there, here = (dict(_leaves(f)) for f in (self._meta, json.loads(json.dumps(fingerprint))))
        differing = [
            f"{name} ({there.get(name)} there, {here.get(name)} now)"
            for name in dict.fromkeys([*there, *here])
            if there.get(name) != here.get(name)
        ]
        if differing:
            raise ParameterError(
                "cache_dir",
                "a folder of the same study, as fits of different studies are never mixed",
                str(self.folder),
                f"The differences are {', '.join(differing[:5])}. Give another folder, or the "
                "arguments of that study.",
            )

    def _read(self) -> dict[str, Fit]:
        path = self.folder / _FITS
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):  # a crash in the middle of a line
            with path.open("r+b") as stream:
                stream.truncate(whole)
        done: dict[str, Fit] = {}
        for number, line in enumerate(text[:whole].decode("utf-8").splitlines(), 1):
            try:
                key, fit = json.loads(line)
                done[key] = Fit.from_dict(fit)
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {path} is damaged ({error}). Remove the line, and the study "
                    "repeats its fit."
                ) from error
        return done

    def append(self, key: str, fit: Fit) -> None:
        """Add a finished fit. It is on the disk when this method returns."""
        with (self.folder / _FITS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([key, fit.to_dict()]) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def describe_images(images: Any) -> Any:
    """Return the fingerprint of images that have one, or a checksum of all pixels."""
    facts = images.fingerprint() if isinstance(images, Fingerprinted) else None
    return digest(images) if facts is None else describe(facts)


def digest(*arrays: Any) -> str | None:
    """Return a short checksum of arrays. Their contents are read block by block."""
    if all(array is None for array in arrays):
        return None
    total = hashlib.blake2b(digest_size=8)
    for array in arrays:
        if not hasattr(array, "dtype") or array.ndim == 0:
            array = np.atleast_1d(array)
        total.update(f"{array.shape} {array.dtype}".encode())
        n_rows = max(1, 2**22 // max(1, math.prod(array.shape[1:])))
        for start in range(0, len(array), n_rows):
            block = np.asarray(array[start : start + n_rows])
            text = repr(block.tolist()).encode() if block.dtype.hasobject else block.tobytes()
            total.update(text)
    return total.hexdigest()


def describe(value: object) -> Any:
    """Describe parameters by text, numbers and dicts that are the same in every process."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, np.ndarray | ImageArray):
        return describe_images(value)
    if isinstance(value, Tensor):
        return digest(value.detach().float().numpy(force=True))
    if isinstance(value, functools.partial):
        return {"partial": describe([value.func, value.args, value.keywords])}
    if isinstance(value, nn.Module):
        weights = [tensor.numpy(force=True) for tensor in value.state_dict().values()]
        return {"class": describe(type(value)), "repr": repr(value), "weights": digest(*weights)}
    if isinstance(value, BaseEstimator):
        return {"class": describe(type(value)), **describe(value.get_params(deep=False))}
    if hasattr(value, "__qualname__"):
        return _describe_code(value)
    if hasattr(value, "__dict__"):
        return {"class": describe(type(value)), **describe(vars(value))}
    return repr(value)


def _describe_code(value: Any) -> str:
    """Return the name of a function or class, and a checksum of the user's code."""
    name = f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, type):
        module = sys.modules.get(value.__module__)
        if value.__module__ == "builtins" or installed_version(getattr(module, "__file__", None)):
            return name
    # The version of this package is compared elsewhere.
    is_ours = str(value.__module__).startswith("skimbal.") and isinstance(value, FunctionType)
    try:
        return f"{name} {code_digest(value.__code__ if is_ours else value, name)}"
    except UndescribedError as error:
        raise ParameterError(
            "cache_dir",
            f"None if {error}",
            name,
            "A folder outlives the program, and fits of edited code must be noticed.",
        ) from error


def text_digest(text: str) -> str:
    """Return a short checksum of a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _leaves(tree: object, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, item in tree.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, tree
