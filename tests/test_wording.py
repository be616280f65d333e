"""Counts in words."""

import pytest

from skimbal.wording import agree, memory_in_words, plural


@pytest.mark.parametrize(
    ("n", "words"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1234, "1,234 images")]
)
def test_plural(n, words):
    assert plural(n, "image") == words


def test_nouns_whose_plural_does_not_end_in_s():
    assert plural(1, "class", "classes") == "1 class"
    assert plural(3, "class", "classes") == "3 classes"
    assert [agree(n, "is", "are") for n in (0, 1, 2)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("n_bytes", "words"), [(1, "1 MB"), (94_300_000, "94 MB"), (10**9, "1.0 GB")]
)
def test_memory(n_bytes, words):
    assert memory_in_words(n_bytes) == words
