"""Counts in words, as all sentences of the package write them."""

__all__ = ["agree", "memory_in_words", "plural"]


def plural(n: int, noun: str, several: str | None = None) -> str:
    """Write a number and a noun, with its plural if it does not end in s.

    Parameters
    ----------
    n : int
        Number of things, dimensionless.
    noun : str
        The noun for 1.
    several : str, default=None
        The noun for all other numbers. None adds an s.

    Returns
    -------
    words : str
        The number with commas between thousands, and the noun.

    Examples
    --------
    >>> from skimbal.wording import plural
    >>> plural(1, "image"), plural(1200, "image"), plural(0, "class", "classes")
    ('1 image', '1,200 images', '0 classes')
    """
    return f"{n:,} {agree(n, noun, several or noun + 's')}"


def memory_in_words(n_bytes: int) -> str:
    """Write a size of memory in MB or GB.

    Parameters
    ----------
    n_bytes : int
        In bytes.

    Returns
    -------
    words : str
        At least 1 MB.

    Examples
    --------
    >>> from skimbal.wording import memory_in_words
    >>> memory_in_words(94_300_000), memory_in_words(3_150_000_000)
    ('94 MB', '3.1 GB')
    """
    if n_bytes >= 10**9:
        return f"{n_bytes / 10**9:.1f} GB"
    return f"{max(1, round(n_bytes / 10**6))} MB"


def agree(n: int, one: str, several: str) -> str:
    """Choose the word that agrees with a number.

    Parameters
    ----------
    n : int
        Number of things, dimensionless.
    one, several : str
        The word for 1, such as a verb, and the word for all other numbers.

    Returns
    -------
    word : str
        One of both.

    Examples
    --------
    >>> from skimbal.wording import agree
    >>> agree(1, "is", "are"), agree(0, "is", "are")
    ('is', 'are')
    """
    return one if n == 1 else several
