"""Labels and groups as text: missing values, order, and spellings that differ by little."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable
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
#: Texts that stand for a missing value in some tables, and are names in others.
_DOUBTFUL = frozenset(
    ("unknown", "unk", "unkn", "unspecified", "undetermined", "unassigned", "unlabeled")
    + ("unlabelled", "not available", "not applicable", "not known", "not stated", "not specified")
    + ("not recorded", "not assessed", "not measured", "not determined", "not reported")
    + ("missing data", "missing value", "nul", "void", "pending", "k.a.", "fehlend")
    + ("不明", "未知", "欠損", "缺失", "неизвестно", "inf", "-inf")
    + ("not done", "no label", "no data", "no value", "n.d.", "n.k.", "n.n.", "nd", "n/d", "n/k")
    + ("blank", "empty", "tbd", "to do", "todo", "(none)", "(null)", "(blank)", "[null]")
    + ("unbekannt", "fehlt", "leer", "inconnu", "desconocido")
)
_LETTERS_OF_MISSING = {"na", "nan", "nanind", "null"}
#: Codes that tables of numbers write for a missing value.
_CODES = re.compile(r"-?(?:1|7+|8+|9+)")
_LEAST_CODE = 77
#: A code above all others by this factor is not the next of them.
_FAR = 10
#: Letters of other alphabets that look like Latin letters, in lower case.
_LOOKALIKES = str.maketrans("аеорсухіјѕοανρ", "aeopcyxijsoavp")
#: Characters that divide words, or that are often left out.
_BETWEEN_WORDS = re.compile(r"[\s_/\\:;'\"’`-]+")
_MOST_SHOWN = 3


class Missing:
    """The texts that stand for a missing value, in any case. Empty text always does.

    ``texts`` is the choice of the user, or None for the usual texts.
    """

    def __init__(self, texts: Collection[str] | None) -> None:
        if texts is not None and (
            isinstance(texts, str) or not all(isinstance(text, str) for text in texts)
        ):
            raise ParameterError("missing_values", "None or a collection of text", texts)
        known = MISSING if texts is None else {_plain(text) for text in texts}
        self._texts = known | {""}
        self.is_stated = texts is not None

    def __contains__(self, text: str) -> bool:
        """Tell whether a text stands for a missing value."""
        return _plain(text) in self._texts

    def doubts(self, names: Iterable[str], kind: str) -> list[str]:
        """Return a note on names that may stand for a missing value, unless the user stated all."""
        if self.is_stated:
            return []
        distinct = sorted(set(names))
        found = [name for name in distinct if _is_doubtful(name)]
        found += _doubtful_codes(name for name in distinct if name not in found)
        if not found:
            return []
        return [
            f"these {kind} may stand for a missing value, and are taken for names: "
            f"{listed(found, ascii)}. Leave out their images if they do, or pass "
            "missing_values=[] if they are names."
        ]

    def notes(self, names: Collection[str], kind: str) -> list[str]:
        """Return all notes on names: near duplicates, and texts of doubtful meaning."""
        return near_duplicates(names, kind) + self.doubts(names, kind)


def _plain(text: str) -> str:
    """Reduce a text to one case and form, without characters that are not seen."""
    return " ".join(_visible(text).split())


def _visible(text: str) -> str:
    if text.isascii():
        return text.casefold()
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in plain if unicodedata.category(c) != "Cf")


def _is_doubtful(name: str) -> bool:
    plain = _plain(name)
    if plain == "none":  # a folder of images without a finding
        return False
    has_letters = any(c.isalnum() for c in plain)
    letters = re.sub(r"[\s./\\()_-]", "", plain)
    words = plain.replace("_", " ")
    # "N.A" and "na." are "n/a" as well, and "missing/NA" says it twice.
    parts = re.findall(r"[^\s/_-]+", plain)
    return (
        not has_letters
        or letters in _LETTERS_OF_MISSING
        or plain in MISSING
        or words in _DOUBTFUL
        or all(part in MISSING or part in _DOUBTFUL for part in parts)
    )


def _doubtful_codes(names: Iterable[str]) -> list[str]:
    """Return codes such as -1, -9 or 999 beside numbers that are not their neighbours, or words."""
    known = list(names)
    numbers = {name: number for name in known if (number := _number(name)) is not None}
    found = []
    for name, number in numbers.items():
        others = {n for n in numbers.values() if n != number}
        is_small = number.adjusted() < _FAR
        is_code = is_small and _CODES.fullmatch(f"{number.normalize():f}")
        if number == 0 or is_code:
            is_alone = not others and (number < 1 or number >= _LEAST_CODE)
            if is_alone and _are_words(name, known):
                found.append(name)
        if not is_code or len(others) < 2 or min(others) < 0:
            continue
        if number < 0 or (number >= _LEAST_CODE and number / _FAR > max(others)):
            found.append(name)
    return found


def _are_words(name: str, names: Collection[str]) -> bool:
    """Tell whether all other names, at least two, begin with a letter."""
    others = [other for other in names if other != name]
    return len(others) > 1 and all(other[:1].isalpha() for other in others)


def sorted_names(names: Iterable[str]) -> list[str]:
    """Sort distinct names as numbers if all of them are numbers, and else with numbers in order.

    ``"grade 2"`` comes before ``"grade 10"``.
    """
    distinct = sorted(set(names))
    numbers = {name: number for name in distinct if (number := _number(name)) is not None}
    if len(numbers) == len(distinct):
        return sorted(distinct, key=numbers.__getitem__)
    return sorted(distinct, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that compares digits by their number, and other parts as text."""
    parts = re.split(r"([0-9]+)", name)
    plain = [part.lstrip("0") if k % 2 else part for k, part in enumerate(parts)]
    return [(len(part) if k % 2 else 0, part) for k, part in enumerate(plain)]


def _number(name: str) -> Decimal | None:
    """Return the finite number that a name spells, in all its digits.

    A comma before digits is the decimal mark of many countries.
    """
    text = unicodedata.normalize("NFKC", name).strip().replace("−", "-")
    try:
        number = Decimal(re.sub(r"^([+-]?\d*),(\d+)$", r"\1.\2", text))
    except InvalidOperation:
        return None
    return number if number.is_finite() and "_" not in name else None


def near_duplicates(names: Iterable[str], kind: str) -> list[str]:
    """Return a note on names that differ in case, spaces, Unicode form or spelling of a number."""
    alike: dict[object, list[str]] = {}
    for name in sorted(set(names)):
        for key in _keys(name):
            alike.setdefault(key, []).append(name)
    # Two keys may put the same names together.
    found = list(dict.fromkeys(tuple(same) for same in alike.values() if len(same) > 1))
    if not found:
        return []
    shown = ", ".join(" and ".join(map(ascii, same)) for same in found[:_MOST_SHOWN])
    more = f", and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return [
        f"these {kind} are spelt nearly alike and are taken as different: {shown}{more}. Give them "
        "one spelling if they are the same."
    ]


def _keys(name: str) -> list[object]:
    """Return that which names of the same thing have in common, in two readings of a comma."""
    number = _number(name)
    if number is None:
        thousands = re.fullmatch(r"[+-]?\d{1,3}(?:[, .']\d{3})+", name.strip())
        whole = None if thousands is None else _number(re.sub(r"[^\d+-]", "", name))
        return [_folded(name)] if whole is None else [_folded(name), whole]
    if re.fullmatch(r"[+-]?\d{1,3}[,.]\d{3}", name.strip()):
        return [number, Decimal(re.sub("[,.]", "", name.strip()))]
    return [number]


def _folded(name: str) -> str:
    """Reduce a name to the letters, digits and signs that tell it from others."""
    visible = letters = _visible(name)
    if not visible.isascii():
        letters = visible.translate(_LOOKALIKES)
        letters = "".join("-" if unicodedata.category(c) == "Pd" else c for c in letters)
    words = [word for part in _BETWEEN_WORDS.split(letters) if (word := part.rstrip(".,!"))]
    joined = words[0] if words else ""
    for word in words[1:]:  # "1 1" is not 11
        joined += f" {word}" if joined[-1].isdigit() and word[0].isdigit() else word
    numbered = re.sub(r"(?<![0-9.,])0+(?=[0-9])", "", joined)
    return re.sub(r"(?<=[0-9])[.,]0+(?![0-9])", "", numbered) or visible


def listed(names: Iterable[object], show: Callable[[object], str] = repr) -> str:
    """Return names in a line, the first of them where there are many."""
    most = 8
    shown = list(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(map(show, shown[:most])) + more
