"""Labels and groups as text: missing values, order, and spellings that differ by little."""

import unicodedata
from collections.abc import Collection, Iterable
from decimal import Decimal, InvalidOperation

from skimbal.exceptions import ParameterError

__all__ = ["MISSING", "Missing", "listed", "near_duplicates", "sorted_names"]

#: Texts that stand for a missing value, in lower case: of pandas, R, SAS, numpy, Excel and MySQL.
MISSING = frozenset(
    ("na", "n/a", "n.a.", "<na>", "nan", "-nan", "nat", "none", "null", "nil", ".", "?")
    + ("\\n", "<null>", "--", "missing", "undefined")
    + ("#n/a", "#n/a n/a", "#na", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan")
    + ("#null!", "#value!", "#ref!", "#div/0!", "#name?", "#num!")
)
_MOST_SHOWN = 3


class Missing:
    """The texts that stand for a missing value, in any case. Empty text always does."""

    def __init__(self, texts: Collection[str] | None) -> None:
        if texts is not None and (
            isinstance(texts, str) or not all(isinstance(text, str) for text in texts)
        ):
            raise ParameterError("missing_values", "None or a collection of text", texts)
        known = MISSING if texts is None else {text.strip().casefold() for text in texts}
        self._texts = known | {""}

    def __contains__(self, text: str) -> bool:
        """Tell whether a text stands for a missing value."""
        return text.strip().casefold() in self._texts


def sorted_names(names: Iterable[str]) -> list[str]:
    """Sort distinct names as numbers if all of them are numbers, and else as text."""
    distinct = sorted(set(names))
    numbers = {name: number for name in distinct if (number := _number(name)) is not None}
    return sorted(distinct, key=numbers.__getitem__) if len(numbers) == len(distinct) else distinct


def _number(name: str) -> Decimal | None:
    """Return the finite number that a name spells, in all its digits."""
    try:
        number = Decimal(name)
    except InvalidOperation:
        return None
    return number if number.is_finite() and "_" not in name else None


def near_duplicates(names: Iterable[str], kind: str) -> list[str]:
    """Return a note on names that differ in case, spaces, Unicode form or spelling of a number."""
    alike: dict[object, list[str]] = {}
    for name in sorted(set(names)):
        number = _number(name)
        alike.setdefault(_folded(name) if number is None else number, []).append(name)
    found = [same for same in alike.values() if len(same) > 1]
    if not found:
        return []
    shown = ", ".join(" and ".join(map(ascii, same)) for same in found[:_MOST_SHOWN])
    more = f", and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return [
        f"these {kind} are spelt nearly alike and are taken as different: {shown}{more}. Give them "
        "one spelling if they are the same."
    ]


def _folded(name: str) -> str:
    """Reduce a name to the letters, digits and signs that tell it from others."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    visible = "".join(c for c in plain if unicodedata.category(c) != "Cf")
    return " ".join(visible.replace("_", " ").replace("-", " ").split()) or visible


def listed(names: Iterable[object]) -> str:
    """Return names in a line, the first of them where there are many."""
    most = 8
    shown = list(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(map(repr, shown[:most])) + more
