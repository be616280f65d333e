"""The parts of a split: their keys, the spellings of their names, and the classes in each part."""

import difflib
import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from skimbal.datasets.labels import listed
from skimbal.exceptions import ParameterError
from skimbal.wording import agree, plural

__all__ = [
    "SPLITS",
    "SplitNames",
    "check_classes_of_parts",
    "check_split_names",
    "guessed_part",
    "near_names",
    "order_of_parts",
    "part_of_value",
    "read_split_names",
    "shared_groups",
    "split_key",
]

SPLITS = ("train", "val", "test")
#: Names as a data set spells them, each with its part, or with None for names to leave out.
SplitNames: TypeAlias = Mapping[str, str | None]

_SPELLINGS = {
    "train": (
        *("train", "training", "trainings", "entrenamiento", "treino", "treinamento"),
        *("apprentissage", "entrainement", "addestramento", "обучение", "训练", "訓練", "学習"),
        *("학습", "훈련"),
    ),
    "val": (
        *("val", "valid", "validate", "validation", "validierung", "validierungs", "validacion"),
        *("validacao", "validazione", "валидация", "验证", "驗證", "検証", "검증"),
    ),
    "test": (
        *("test", "testing", "prueba", "pruebas", "teste", "testes", "тест", "测试", "測試"),
        *("テスト", "테스트"),
    ),
}
#: Names that mean a part among other parts, and may mean anything else without them.
_SHORT = {
    "train": ("tr", "trn"),
    "val": ("va", "vali", "vld", "dev"),
    "test": ("te", "ts", "tst", "holdout", "heldout"),
}
#: Names of parts that some call val and others test, or train.
_DOUBTFUL = ("eval", "evaluation", "evaluate", "development", "tune", "tuning", "unseen")
#: Words around the name of a part, as in "train_set", "images_train", "imagesTr" and "train2017".
_BEFORE = r"(?:images?|imgs?|data|pictures?|scans?|split)?"
_AFTER = r"(?:images?|imgs?|data|daten|set|dataset|pictures?|scans?|split|part|folder|集)*\d*"
_FOLD = re.compile(r"(?:fold|cv|kfold|split)\d+")


#: Words by their letters in the order of the alphabet.
_OF_LETTERS = {
    "".join(sorted(word)): word
    for word in ("train", "training", "valid", "validation", "test", "testing")
}


def split_key(name: str, split: str) -> str:
    """Return the key of an array of a split, or of all rows for ""."""
    return f"{name}_{split}" if split else name


def order_of_parts(part: str) -> tuple[int, str]:
    """Return a key that sorts the parts of a split: train, val, test, others."""
    return SPLITS.index(part) if part in SPLITS else len(SPLITS), part


def shared_groups(groups: Mapping[str, Collection[str]]) -> list[tuple[str, list[str]]]:
    """Return a note on each two parts of a split that share groups, with these groups."""
    found = []
    for one, other in itertools.combinations(sorted(groups, key=order_of_parts), 2):
        shared = sorted(set(groups[one]) & set(groups[other]))
        if shared:
            text = (
                f"{plural(len(shared), 'group')}, such as {shared[0]!r}, "
                f"{agree(len(shared), 'is', 'are')} in {one} and in {other}. Scores on {other} "
                "will be too high."
            )
            found.append((text, shared))
    return found


class ReadNames(NamedTuple):
    """Names of folders or values, read as parts of a split.

    ``parts`` maps the names that are understood to their parts. ``doubtful`` holds the other names
    that look like parts. Both are empty where nothing looks like a split.
    """

    parts: dict[str, str]
    doubtful: list[str]


def _letters(name: str) -> str:
    """Reduce a name to its letters and digits, in one case and without accents."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return unicodedata.normalize("NFKC", "".join(c for c in plain if c.isalnum()))


def _part(name: str, spellings: Mapping[str, Iterable[str]]) -> str | None:
    letters = _letters(name)
    for part, words in spellings.items():
        if re.fullmatch(f"{_BEFORE}(?:{'|'.join(words)}){_AFTER}", letters):
            return part
    return None


def _words(name: str) -> set[str]:
    """Return the parts that single words of a name spell, as in "stage1_train"."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    # "trian" beside "tset" are slips of the same fingers.
    words += [_OF_LETTERS.get("".join(sorted(word.casefold())), "") for word in words]
    return {part for part in (_part(word, _SPELLINGS) for word in words) if part}


def read_split_names(names: Collection[str]) -> ReadNames:
    """Read the names of folders that lie side by side as parts of a split."""
    short = {name: part for name in names if (part := _part(name, _SHORT))}
    # "imagesTr" can mean nothing else, as "tr" can.
    bare = {word for words in _SHORT.values() for word in words}
    sure = {name: part for name in names if (part := _part(name, _SPELLINGS))}
    sure |= {n: part for n, part in short.items() if _letters(n).rstrip("0123456789") not in bare}
    doubtful = [name for name in names if _letters(name) in _DOUBTFUL]
    if sure or (len(short) == len(names) and len(set(short.values())) > 1):
        return ReadNames({**sure, **short}, doubtful)
    if len(names) > 1 and all(_FOLD.fullmatch(_letters(name)) for name in names):
        return ReadNames({}, list(names))
    # One name such as "test_tube" is a class, and "stage1_train" beside "stage1_test" is not.
    spelt = {name: found for name in names if (found := _words(name))}
    if len(set().union(*spelt.values())) > 1:
        return ReadNames({}, list(spelt))
    return ReadNames({}, [])


def guessed_part(name: str) -> str | None:
    """Return the part that one word of a name spells, to be proposed in an error."""
    found = _words(name)
    return found.pop() if len(found) == 1 else None


def part_of_value(value: str) -> str | None:
    """Return the part that a value of a split column means, or None."""
    return _part(value, _SPELLINGS) or _part(value, _SHORT)


def near_names(name: str, names: Iterable[str]) -> str:
    """Return the names that are spelt nearly like a name, in words."""
    near = difflib.get_close_matches(name.casefold(), list(names), n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def check_split_names(splits: SplitNames | None) -> None:
    """Refuse a mapping of names to anything but the parts and None."""
    if splits is None:
        return
    if not isinstance(splits, Mapping) or not all(
        isinstance(name, str) and (part is None or part in SPLITS) for name, part in splits.items()
    ):
        raise ParameterError(
            "splits", f"None, or names mapped to {', '.join(map(repr, SPLITS))} or None", splits
        )


def check_classes_of_parts(labels: Mapping[str, npt.NDArray[np.generic]], where: str) -> list[str]:
    """Refuse classes that the training rows lack, and return notes on classes of the others."""
    classes = {part: set(np.unique(y).tolist()) for part, y in labels.items()}
    known = classes.get("train")
    if known is None:
        return []
    notes = []
    for part in classes.keys() - {"train"}:
        strange, lacking = sorted(classes[part] - known), sorted(known - classes[part])
        if strange:
            raise ValueError(
                f"{where}: the classes of {part} must be classes of train, "
                f"{listed(sorted(known))}; got {listed(strange)} too. Nothing can be learnt about "
                "them. Rename these classes, leave them out, or split the rows again."
            )
        if lacking:
            notes.append(f"{part} has no image of the classes {listed(lacking)} of train.")
    return sorted(notes)
