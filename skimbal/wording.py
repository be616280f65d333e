"""Counts in words, as all sentences of the package write them."""

__all__ = ["agree", "plural"]


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
