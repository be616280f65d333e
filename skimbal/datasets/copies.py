"""Images that occur more than once."""

import hashlib
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

__all__ = ["find_copies", "image_digest", "image_numbers", "row_digests", "spanning"]

#: Files that are read at once.
_N_THREADS = 4
#: Bytes of an array that are read at once.
_CHUNK = 2**25


def image_digest(image: np.ndarray) -> bytes | None:
    """Return a digest of the numbers of an image, or None if all of them are equal.

    The same numbers have the same digest in each dtype, whole numbers up to 2**53, and with or
    without axes of length 1. All images of one value are alike and are not copies of a picture.
    """
    if image.size == 0 or image.dtype.kind not in "biuf":
        return None
    low, high = image.min(), image.max()
    if low == high:
        return None
    shape = repr([n for n in image.shape if n > 1])
    digest = hashlib.blake2b(shape.encode(), digest_size=16)
    plain = np.ascontiguousarray(_plain(image, low, high))
    digest.update(plain.dtype.str.encode())
    digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.digest()


@np.errstate(over="ignore", invalid="ignore")
def _plain(image: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """Return the image in the smallest dtype that holds its numbers."""
    if image.dtype.kind == "f":
        # The first numbers tell most images of fractions from images of whole numbers.
        parts = (image.reshape(-1)[:64], image) if max(-low, high) < 2**53 else ()
        if not parts or not all((np.rint(part) == part).all() for part in parts):
            narrow = image.astype("<f4")
            exact = image.dtype.itemsize <= 4 or np.array_equal(narrow, image, equal_nan=True)
            # Negative zero becomes zero.
            return (narrow if exact else image.astype("<f8")) + np.float32(0)
        image = image.astype("<i8")
    names = ("<u1", "<u2", "<u4", "<u8") if low >= 0 else ("<i2", "<i4", "<i8")
    least = next(n for n in names if np.iinfo(n).min <= int(low) and int(high) <= np.iinfo(n).max)
    return image.astype(least, copy=False)


def row_digests(X: Any) -> list[bytes | None]:
    """Return the digest of each image of an array, of images on demand or of a table of rows."""
    n = len(X)
    if getattr(X, "has_files", False):
        # Decoding releases the GIL.
        with ThreadPoolExecutor(_N_THREADS) as pool:
            return list(pool.map(lambda i: image_digest(X[i]), range(n)))
    rows = getattr(X, "iloc", X)
    n_bytes = np.asarray(rows[:1]).nbytes
    step = max(1, _CHUNK // max(1, n_bytes))
    return [
        image_digest(image)
        for start in range(0, n, step)
        for image in np.asarray(rows[start : start + step])
    ]


def image_numbers(X: Any) -> np.ndarray:
    """Return the first 8 bytes of the digest of each image as a number, 0 for equal pixels."""
    digests = [(digest or bytes(8))[:8] for digest in row_digests(X)]
    return np.frombuffer(b"".join(digests), dtype="<u8")


def find_copies(digests: Iterable[bytes | None]) -> list[list[int]]:
    """Return the numbers of the rows of each picture that occurs more than once."""
    rows: dict[bytes, list[int]] = {}
    for i, digest in enumerate(digests):
        if digest is not None:
            rows.setdefault(digest, []).append(i)
    return [same for same in rows.values() if len(same) > 1]


def spanning(copies: list[list[int]], value: Callable[[int], Hashable]) -> list[list[int]]:
    """Return the copies whose rows have several values, such as classes."""
    return [same for same in copies if len({value(i) for i in same}) > 1]
