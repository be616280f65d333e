"""Finished fits on disk. Processes that run the same study at the same time share the work.

Files of the folder
-------------------
``study.json``
    The description of the study. Another study is refused, with the differences.
``seed.json``
    The seed, if the first call had none. Processes that start together agree on it.
``fit-NAME.json``
    A finished fit. The name is a checksum of the study and of the fit's key, so a file cannot be
    taken for another, and a name alone shows that the folder is of this study.
``claim-NAME.json``
    A fit that a process is at, see :mod:`skimbal.study.claims`.

Each file is written whole, see :mod:`skimbal.atomic`, and has a checksum, see
:mod:`skimbal.study.sealed`. No file is ever changed, so there is no moment at which a crash damages
finished fits. All lie in one folder: a network drive learns of new files of others when it
writes a file to that folder, and a process looks for the fit after it has written its claim.

Faults
------
*A fit's file is damaged.* It counts as absent. The fit is repeated, with a warning.

*The description is damaged or absent.* It is written again if a file of the folder has the name of
a fit of this study, or if there are no fits. Otherwise nobody knows whose fits these are, and the
folder is refused.

*The folder cannot be written.* A new study is refused before the first fit. Later the study goes on
without the folder, with a warning: its fits are in memory. Each fit tries again to be written.

*A fit raises an error.* Its claim is given back and the error is raised. No file keeps the error:
another machine may have the memory that was missing. Another process tries the fit and, if the
error is of the fit, raises it as well.
"""

import itertools
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from skimbal.atomic import PART, create_file, part_path, remove_leftovers, write_file
from skimbal.exceptions import ParameterError, warn_caller
from skimbal.fingerprints import UndescribedError, differences, identity, text_digest
from skimbal.study.claims import Claim, holder_of, is_free
from skimbal.study.scores import Fit
from skimbal.study.sealed import DamagedError, is_sealed, read_sealed, seal
from skimbal.typing import PathLike

__all__ = ["FitCache", "naming_cache_dir"]

_STUDY, _SEED = "study.json", "seed.json"
_FIT, _CLAIM = "fit-", "claim-"
#: Names of our files. The last are files that are open elsewhere, on a network drive.
_OWN = re.compile(rf"{_STUDY}|{_SEED}|({_FIT}|{_CLAIM})[0-9a-f]{{16}}\.json|{PART}.*|\.nfs.*")
#: A process that waits for others looks so often, in seconds: at first, and later.
_FIRST_LOOK, _LAST_LOOK = 0.05, 5.0
#: It looks at so many claims at a time, whether their processes are alive.
_MOST_LOOKS = 8
#: Most files that a message names.
_MOST_NAMED = 5


class FitCache:
    """A folder with a description of a study, and a file for each finished fit.

    Parameters
    ----------
    folder : str or path-like
        The folder, which may be new.

    Raises
    ------
    OSError
        If the path is a file, or the folder cannot be read.
    ParameterError
        If the folder holds files, but not the files of a study.
    """

    def __init__(self, folder: PathLike) -> None:
        name = os.fspath(folder) if isinstance(folder, str | os.PathLike) else None
        if not isinstance(name, str) or "\0" in name:
            raise ParameterError("cache_dir", "a folder or None", folder)
        self.folder = Path(os.path.abspath(name))
        #: Seed of the study in the folder, if its description can be read.
        self.seed: int | None = None
        self._damage: str | None = None
        self._study = ""
        self._known_damage: set[str] = set()
        self._has_warned = False
        self._said = ""
        #: Which call it is. Claims have it, so that a call gives back the claims of its workers.
        self._run = secrets.token_hex(8)
        description = self._read_description()
        if description is None:
            self._check_files()
        else:
            self.seed = int(description["seed"])

    def _read_description(self) -> dict[str, Any] | None:
        """Return the description of the folder's study, or None if it is absent or damaged."""
        self._damage = None
        try:
            return read_sealed(self._path(_STUDY))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, DamagedError) as error:
            self._damage = _reason(error)
            return None

    def _check_files(self) -> None:
        """Refuse a folder that no study has made."""
        with self._refusing():
            names = os.listdir(self.folder) if self.folder.exists() else []
        foreign = [name for name in names if not _OWN.fullmatch(name)]
        if foreign and not any(name.startswith(_FIT) for name in names):
            raise ParameterError(
                "cache_dir",
                "a new or empty folder, or the folder of an earlier study",
                str(self.folder),
                f"It holds files, but not the files of a study: {_listed(sorted(foreign))}.",
            )

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Say in an error of the drive which parameter names the folder."""
        try:
            yield
        except OSError as error:
            raise type(error)(
                f"cache_dir must be a folder that can be made, read and written to; got "
                f"{str(self.folder)!r} ({error}). Give another folder."
            ) from error

    def agree_on_seed(self, seed: int) -> int:
        """Return the seed of the folder, or of the process that came first to a new folder."""
        if self.seed is not None:
            return self.seed
        path = self._path(_SEED)
        with self._refusing():
            os.makedirs(self.folder, exist_ok=True)
            names = os.listdir(self.folder)
            if _SEED not in names and any(name.startswith(_FIT) for name in names):
                self._refuse_unknown("the random_state of the study is needed to know it")
            if create_file(path, seal({"seed": seed})):
                return seed
        try:
            return int(read_sealed(path)["seed"])
        except (OSError, DamagedError):
            with self._refusing():
                self._replace(path, seal({"seed": seed}))
            return seed

    def _refuse_unknown(self, reason: str) -> NoReturn:
        raise ParameterError(
            "cache_dir",
            "a folder whose study is known",
            str(self.folder),
            f"{_STUDY} {f'is damaged ({self._damage})' if self._damage else 'is missing'}, and "
            f"{reason}. Give the arguments of that study, or another folder.",
        )

    def open(self, fingerprint: dict[str, Any], keys: Iterable[str]) -> dict[str, Fit]:
        """Make the folder, or check that it belongs to this study. Return its fits of the keys."""
        self._study = identity(fingerprint)
        files = {key: os.path.basename(self._fit(key)) for key in keys}
        description = self._read_description()
        if description is None:
            description = self._describe(fingerprint, set(files.values()))
        self._check_same(description, fingerprint)
        remove_leftovers(self.folder)
        with self._refusing():
            there = set(os.listdir(self.folder))
        done = self._read_all(key for key, file in files.items() if file in there)
        for key in done:
            if os.path.basename(self._claim(key)) in there:  # a claim that could not be removed
                with suppress(OSError):
                    os.unlink(self._claim(key))
        return done

    def _describe(self, fingerprint: dict[str, Any], files: set[str]) -> dict[str, Any]:
        """Write the description of a folder that is new, or is known to be of this study."""
        path, data = self._path(_STUDY), seal(fingerprint, indent=1)
        with self._refusing():
            os.makedirs(self.folder, exist_ok=True)
            there = {name for name in os.listdir(self.folder) if name.startswith(_FIT)}
            # Another process may have made the folder meanwhile, and written fits since.
            description = self._read_description()
            if description is None and not there and self._damage is None:
                if create_file(path, data):
                    return fingerprint
                description = self._read_description()
        if description is not None:
            return description
        if there and not there & files:
            self._refuse_unknown("its fits are not of the study that these arguments describe")
        if not there and not is_sealed(path):
            self._refuse_unknown("there are no fits that show whose it was")
        reason = f"is damaged ({self._damage})" if self._damage else "is missing"
        try:
            self._replace(path, data)
        except OSError as error:
            self._warn_of(error)
        else:
            self._warn(
                f"cache_dir: {path} {reason}. The folder is of this study, so the file was written "
                "again. No fit is lost."
            )
        return fingerprint

    def _check_same(self, description: dict[str, Any], fingerprint: dict[str, Any]) -> None:
        differing = differences(description, fingerprint)
        if differing:
            raise ParameterError(
                "cache_dir",
                "a folder of the same study, as fits of different studies are never mixed",
                str(self.folder),
                f"The differences are {_listed(differing)}. Give another folder, or the arguments "
                "and the code of that study.",
            )

    def _read_all(self, keys: Iterable[str]) -> dict[str, Fit]:
        """Read fits, and name all damaged files in one warning."""
        done: dict[str, Fit] = {}
        reasons = []
        for key in keys:
            try:
                done[key] = self._read(key)
            except FileNotFoundError:
                continue
            except (OSError, DamagedError) as error:
                self._known_damage.add(key)
                reasons.append(f"{self._fit(key)} ({_reason(error)})")
        if reasons:
            self._warn(f"cache_dir: {_damaged(reasons)} {_listed(reasons)}.")
        return done

    def _fit(self, key: str) -> str:
        return self._path(f"{_FIT}{text_digest(f'{self._study} {key}')}.json")

    def _claim(self, key: str) -> str:
        return self._path(f"{_CLAIM}{text_digest(f'{self._study} {key}')}.json")

    def _read(self, key: str) -> Fit:
        fields = read_sealed(self._fit(key))
        if fields.get("key") != key:
            raise DamagedError("it is the file of another fit")
        try:
            return Fit.from_dict(fields["fit"])
        except (KeyError, TypeError) as error:
            raise DamagedError(f"its contents are not of a fit: {error}") from error

    def read(self, key: str) -> Fit | None:
        """Return a finished fit, or None if there is none. A damaged file is a warning."""
        try:
            return self._read(key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, DamagedError) as error:
            if key not in self._known_damage:
                self._known_damage.add(key)
                self._warn(f"cache_dir: {_damaged([key])} {self._fit(key)} ({_reason(error)}).")
            return None

    def write(self, key: str, fit: Fit) -> Fit:
        """Keep a fit, which is on the disk when this method returns, and return it.

        If another process has kept the fit meanwhile, its fit is returned, which has other times.
        """
        path, data = self._fit(key), seal({"key": key, "fit": fit.to_dict()})
        try:
            if not create_file(path, data):
                found = self.read(key)
                if found is not None:
                    return found
                self._replace(path, data)
        except OSError as error:
            self._warn_of(error)
        return fit

    def _replace(self, path: str, data: bytes) -> None:
        """Write a file in the place of a damaged one, or of a folder, which gets a new name."""
        if os.path.isdir(path):
            os.rename(path, part_path(os.path.dirname(path)))
        write_file(path, data)

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Claim a fit for the time of the block. Yield False if another process is at it.

        If the folder cannot be written, there is a warning, and the fit is done without a claim.
        """
        claim = Claim(self._claim(key), self._run)
        try:
            try:
                is_ours = claim.take()
            except OSError as error:
                self._warn_of(error)
                is_ours = True
            yield is_ours
        finally:
            claim.give_back()

    def wait(self, keys: Sequence[str], say: Callable[[str], None]) -> None:
        """Wait until one of the fits, at which other processes are, is finished or free."""
        pause, some = _FIRST_LOOK, itertools.cycle(keys)
        known = self._files()  # damaged ones among them, which are being replaced
        while not self._has_news(keys, known, itertools.islice(some, min(_MOST_LOOKS, len(keys)))):
            line = self._who(keys) if pause == _FIRST_LOOK else self._said
            if line != self._said:
                self._said = line
                say(line)
            time.sleep(pause)
            pause = min(_LAST_LOOK, 1.5 * pause)

    def _files(self) -> set[str]:
        try:
            return set(os.listdir(self.folder))
        except OSError:  # the next fit will meet the error, and warn
            return set()

    def _has_news(self, keys: Sequence[str], known: set[str], some: Iterable[str]) -> bool:
        """Tell whether a fit is finished, a claim was given back, or one of some is abandoned."""
        there = self._files()
        for key in keys:
            fit, claim = os.path.basename(self._fit(key)), os.path.basename(self._claim(key))
            if claim not in there or (fit in there and fit not in known):
                return True
        try:
            return any(is_free(self._claim(key)) for key in some)
        except OSError:
            return True

    def _who(self, keys: Sequence[str]) -> str:
        found = (holder_of(self._claim(key)) for key in keys)
        names = {f"process {h.process.pid} on {h.process.host}" for h in found if h is not None}
        return f"Waiting for the fits of {_listed(sorted(names))}."

    def give_back(self) -> None:
        """Give back all claims of this call, also of workers that are not there any more."""
        with suppress(OSError):
            for name in os.listdir(self.folder):
                path = self._path(name)
                if name.startswith(_CLAIM):
                    found = holder_of(path)
                    if found is not None and found.run == self._run:
                        os.unlink(path)

    def count(self, keys: Iterable[str]) -> int:
        """Count the fits that are in the folder."""
        return sum(os.path.exists(self._fit(key)) for key in keys)

    def _warn_of(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(
                f"cache_dir={str(self.folder)!r} cannot be written ({type(error).__name__}: "
                f"{_reason(error)}). The study goes on. Fits that cannot be written are in memory "
                "only. Make room, or give another folder to the next call."
            )

    def _warn(self, text: str) -> None:
        warn_caller(text)


@contextmanager
def naming_cache_dir(cache: FitCache) -> Iterator[None]:
    """Name the parameter in an error about a value that cannot be described."""
    try:
        yield
    except UndescribedError as error:
        raise ParameterError(
            "cache_dir",
            f"None if {error}",
            str(cache.folder),
            "A folder outlives the program, and fits of edited code must be noticed.",
        ) from error


def _damaged(files: Sequence[str]) -> str:
    if len(files) == 1:
        return "a file is damaged, and its fit is done again:"
    return f"{len(files)} files are damaged, and their fits are done again:"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
