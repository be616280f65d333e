"""Finished fits on disk. Only a study of the same data and parameters continues with them."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skimbal.exceptions import ParameterError
from skimbal.fingerprints import UndescribedError, differences
from skimbal.study.scores import Fit
from skimbal.typing import PathLike

__all__ = ["FitCache", "naming_cache_dir"]

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
        differing = differences(self._meta, fingerprint)
        if differing:
            more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
            raise ParameterError(
                "cache_dir",
                "a folder of the same study, as fits of different studies are never mixed",
                str(self.folder),
                f"The differences are {', '.join(differing[:5])}{more}. Give another folder, or "
                "the arguments and the code of that study.",
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


@contextmanager
def naming_cache_dir(folder: PathLike) -> Iterator[None]:
    """Name the parameter in an error about a value that cannot be described."""
    try:
        yield
    except UndescribedError as error:
        raise ParameterError(
            "cache_dir",
            f"None if {error}",
            str(folder),
            "A folder outlives the program, and fits of edited code must be noticed.",
        ) from error
