"""A checksum of a value in parts, so that an error can name the part that differs."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, TypeAlias

__all__ = ["PLAIN", "PartedChecksum", "Trail", "UndescribedError"]

#: Kinds of values that their text describes.
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented))
#: Parts are noted so deep, and so many of them. The checksum has all of them.
_DEPTH, _MOST = 5, 400
#: Plain values are noted as text of so many characters at most, and other parts as digits.
_TEXT, _DIGITS = 60, 12

Trail: TypeAlias = tuple[str, ...]


class UndescribedError(ValueError):
    """A value has no description that would change with its behaviour."""


class PartedChecksum:
    """A checksum that grows by the parts of a value.

    Functions, classes and modules wait until the value that names them is done. So a part holds
    its own code and values only, and chains of functions may be of any length.
    """

    def __init__(self, trail: Trail, seen: dict[object, tuple[str, object]] | None = None) -> None:
        self._total = hashlib.blake2b(digest_size=16)
        self._trail = trail
        #: Names of the objects on the way here. The objects are held, so that ids stay theirs.
        self._seen = {} if seen is None else seen
        self._counts: Counter[Trail] = Counter()
        self._waiting: deque[tuple[Trail, Callable[[], None]]] = deque()
        #: Texts of plain values and digits of others, by the names of the parts.
        self.parts: dict[str, str] = {}

    def hexdigest(self) -> str:
        """Describe all that waits. Return the checksum of all parts."""
        self.add_waiting()
        return self._total.hexdigest()

    def add_waiting(self) -> None:
        """Describe all that waits."""
        above = self._trail
        while self._waiting:
            trail, describe = self._waiting.popleft()
            self._trail = trail[:-1]
            with self.within(trail[-1]):
                describe()
        self._trail = above

    def write(self, *texts: str) -> None:
        """Add texts."""
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            self._total.update(b"%d:" % len(data) + data)

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Add the contents of a block of memory."""
        self.write(hashlib.blake2b(data, digest_size=16).hexdigest())

    def refuse(self, value: object, reason: str) -> UndescribedError:
        """Return an error that names the part."""
        where = " of ".join(reversed(self._trail))
        kind = type(value)
        return UndescribedError(
            f"{where} cannot be described: {kind.__module__}.{kind.__qualname__}, {reason}"
        )

    @contextmanager
    def within(self, part: str, *value: object) -> Iterator[None]:
        """Describe a part by itself."""
        above, self._total = self._total, hashlib.blake2b(digest_size=16)
        self._trail += (part,)
        yield
        digest = self._total.hexdigest()
        self._note(digest, *value)
        self._trail = self._trail[:-1]  # an error needs the trail as it is
        self._total = above
        self.write(digest)

    def _note(self, digest: str, *value: object) -> None:
        name = " of ".join(reversed(self._trail[1:]))
        if (
            not name
            or len(self._trail) - 1 > _DEPTH
            or (len(self.parts) >= _MOST and name not in self.parts)
        ):
            return
        text = "".join(repr(item)[: _TEXT + 1] for item in value if type(item) in PLAIN)
        note = text if 0 < len(text) <= _TEXT else digest[:_DIGITS]
        if name in self.parts:  # such as a function, where it is named and where it is described
            note = hashlib.blake2b(f"{self.parts[name]} {note}".encode()).hexdigest()[:_DIGITS]
        self.parts[name] = note

    def wait(self, describe: Callable[[], None]) -> None:
        """Describe something later, under the name of the part that is described now."""
        self._waiting.append((self._trail, describe))

    def is_known(self, value: object, key: object) -> bool:
        """Note an object, or write the name of an object that has been described."""
        if key in self._seen:
            self.write("seen", self._seen[key][0])
            return True
        # A number of all objects would change the parts that follow an edit.
        self._counts[self._trail] += 1
        name = " of ".join(reversed(self._trail[1:]))
        self._seen[key] = f"{name}, {self._counts[self._trail]}", value
        return False

    def apart(self) -> Self:
        """Return a checksum for a single item of this value."""
        return type(self)(self._trail, dict(self._seen))
