"""Columns and arrays that are not used and look like groups, such as patients."""

import re
from collections.abc import Mapping, Sequence

__all__ = ["looks_like_groups", "unused_groups", "words_on_unused"]

#: Words in the names of groups, in small letters.
_GROUPS = {"patient", "patients", "subject", "subjects", "person", "participant", "individual"}
_GROUPS |= {"case", "cases", "donor", "animal", "mouse", "mrn", "pid", "group", "groups"}
_GROUPS |= {"study", "exam", "examination", "visit", "accession"}
#: Beginnings of names that are written as one word, such as patientid.
_BEGINNINGS = ("patient", "subject", "participant", "case_", "caseid", "studyid", "groupid")
#: Words in the names of facts that many patients share.
_FACTS = {"age", "date", "year", "time", "width", "height", "size", "weight", "score", "index"}
#: Fewest groups, and most images of a group on average, of a column with any other name.
_FEWEST, _MOST = 8, 20


def unused_groups(columns: Mapping[str, Sequence[object]]) -> list[str]:
    """Return the columns that are called like patients and repeat, or else repeat like patients."""
    repeating = {
        name: values for name, values in columns.items() if 1 < len(set(values)) < len(values)
    }
    called = [name for name in repeating if looks_like_groups(name)]
    return called or [name for name, values in repeating.items() if _repeats(name, values)]


def looks_like_groups(name: str) -> bool:
    """Tell whether a column is called like groups, such as PatientID."""
    is_number = name.casefold() == "id"
    return is_number or bool(_words(name) & _GROUPS) or name.casefold().startswith(_BEGINNINGS)


def _repeats(name: str, values: Sequence[object]) -> bool:
    """Tell whether values repeat as often as patients do, and are names or long numbers."""
    n_distinct = len(set(values))
    if n_distinct < _FEWEST or n_distinct * _MOST < len(values) or _words(name) & _FACTS:
        return False
    # Short numbers count or measure something, such as the slices of a volume.
    measured = r"\s*[-+]?(\d{1,3}|\d*[.,]\d+)\s*"
    return not any(re.fullmatch(measured, str(value)) for value in values)


def _words(name: str) -> set[str]:
    """Return the words of a name, in small letters."""
    return {word.casefold() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def words_on_unused(names: Sequence[str], what: str, parameter: str) -> list[str]:
    """Say that columns or arrays are not used, with the parameter that uses one."""
    if not names:
        return []
    shown = ", ".join(map(repr, names[:3])) + (" and others" if len(names) > 3 else "")
    subject = f"the {what} {shown} is" if len(names) == 1 else f"the {what}s {shown} are"
    return [
        f"{subject} not used, with values that repeat as patients do. Images of one patient in "
        "training and test rows make scores too high, and intervals too short. Name the "
        f"{what} of the patients, such as {parameter}={names[0]!r}."
    ]
