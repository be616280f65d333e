"""The parser of the command line, and the values of its options."""

import argparse
import ast
import difflib
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeAlias

from skimbal.datasets.splits import SPLITS
from skimbal.exceptions import ParameterError
from skimbal.habits import advice_on_name, meant_values
from skimbal.wording import agree

__all__ = [
    "OneOrSeveral",
    "Options",
    "Parser",
    "as_arguments",
    "as_typed",
    "auto_or",
    "count",
    "did_you_mean",
    "in_shell",
    "jobs",
    "meant_word",
    "names",
    "not_negative",
    "number_or_word",
    "one_line",
    "option",
    "positive",
    "seed",
    "split_names",
]

#: Names of parameters of the library, each with its options and the settings of argparse.
Options: TypeAlias = Mapping[str, tuple[str, Mapping[str, Any]]]


class Parser(argparse.ArgumentParser):
    """A parser that ends with an error of one line, and names options in errors of the library."""

    def __init__(
        self, prog: str, description: str, *, usage: str | None = None, epilog: str | None = None
    ) -> None:
        super().__init__(prog, usage, description, epilog)
        self._option_of: dict[str, str] = {}
        self._absent: dict[str, str] = {}
        #: Options that take the word none for None.
        self._of_none: set[str] = set()

    def add_options(self, options: Options, title: str | None = None) -> None:
        """Add options that are called as parameters of the library."""
        group = self if title is None else self.add_argument_group(title)
        for parameter, (text, settings) in options.items():
            names = text.split()
            group.add_argument(*names, dest=parameter, **_with_advice(parameter, settings))
            if "none" in settings.get("choices", ()):
                self._of_none.add(names[0])
            for name in (parameter, *(name.lstrip("-").replace("-", "_") for name in names)):
                self._option_of[name] = names[0]

    def add_absent(self, options: Options, reason: str) -> None:
        """Say why options of other commands are not options here, to a user who gives them."""
        for text, _ in options.values():
            self._absent.update(dict.fromkeys(text.split(), reason))

    def parse_args(self, args: Sequence[str], namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse all arguments, or end with the option that an unknown option may mean."""
        # An option of another command is not the beginning of an option here.
        for arg in args:
            if (name := arg.partition("=")[0]) in self._absent:
                self.error(f"{name} is not an option of {self.prog}. {self._absent[name]}")
        known, unknown = self.parse_known_args(args)
        if unknown:
            mistyped = next((arg for arg in unknown if re.match(r"--?[A-Za-z]", arg)), "")
            hint = self._meant(mistyped.partition("=")[0])
            self.error(f"unrecognized arguments: {' '.join(unknown)}.{hint}")
        for action in self._actions:
            value = getattr(known, action.dest, None)
            # An empty path would be the folder in which the program runs.
            if not action.option_strings and "" in (value if isinstance(value, list) else [value]):
                self.error(
                    f"{action.metavar or action.dest} must not be empty; got ''. A variable of the "
                    "shell may have no value."
                )
        return known

    def _meant(self, option: str) -> str:
        """Ask for the option that an unknown option may mean, by its name in other libraries."""
        names = {name.lstrip("-").replace("-", "_"): name for name in self._option_string_actions}
        name = option.lstrip("-").replace("-", "_")
        if "device" in self._option_of and re.fullmatch(r"(use_)?(cuda|gpus?)", name.lower()):
            return f" Did you mean {self._option_of['device']} cuda?"
        advice = advice_on_name(name, {**self._option_of, **names})
        found = re.fullmatch(r"did you mean (.*)\?", advice)
        if found is None:
            return did_you_mean(option, self._option_string_actions)
        meant = [self._option_of.get(one) or names[one] for one in found[1].split(" or ")]
        return f" Did you mean {' or '.join(dict.fromkeys(meant))}?"

    def error(self, message: str) -> NoReturn:
        """End with code 2 and the message."""
        self.exit(2, f"skimbal: error: {one_line(message)}\n")

    def refuse(self, error: Exception, about: str, path: str = "") -> NoReturn:
        """End with code 2 and an error of the library, which is about an option or about data.

        An error that begins with the path of the data names it once.
        """
        begins = bool(path) and str(error).startswith(tuple(f"{path}{sign}" for sign in " :,"))
        self.error(self.worded(error, about.partition(path)[0] if begins else f"{about}: "))

    def worded(self, error: Exception, about: str = "") -> str:
        """Return the message of an error of the library, with options in place of parameters."""
        parameter = error.parameter if isinstance(error, ParameterError) else ""
        if isinstance(error, ParameterError) and parameter in self._option_of:
            return self.in_options(error.worded(self._option_of[parameter]))
        return self.in_options(f"{about}{error}")

    def in_options(self, text: str) -> str:
        """Return a text with options in place of the parameters that it sets."""
        parts: list[str] = []
        of_python: list[str] = []
        at = 0
        for match in _SETTING.finditer(text):
            option, start = self._option_of.get(match[1]), match.start()
            if start < at or (option is None and match[1] not in _OF_PYTHON):
                continue
            if _is_in_call(text, start):
                continue
            if option is None:
                of_python.append(match[0])
                continue
            value = _value_at(text, match.end())
            is_word = value == "None" and option in self._of_none
            parts += [text[at:start], as_arguments(option, "'none'" if is_word else value)]
            at = match.end() + len(value)
        worded = "".join([*parts, text[at:]])
        words = {word.strip("(,.;") for word in worded.split()}
        remarks = [f"{n} is {o}" for n, o in self._option_of.items() if "_" in n and n in words]
        if of_python:
            are = agree(len(set(of_python)), "is a parameter", "are parameters")
            remarks.append(f"{' and '.join(dict.fromkeys(of_python))} {are} of Python alone")
        return f"{worded} Here, {' and '.join(remarks)}." if remarks else worded


def _with_advice(parameter: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of an option whose words are refused with the word that is meant."""
    choices = settings.get("choices", ())
    if not choices or not all(isinstance(one, str) for one in choices):
        return settings
    others = {name: value for name, value in settings.items() if name != "choices"}
    shown = f"{{{','.join(choices)}}}"
    return {"metavar": shown, **others, "type": partial(_one_of, parameter, tuple(choices))}


def _one_of(parameter: str, words: Sequence[str], text: str) -> str:
    """Take one of some words."""
    if text in words:
        return text
    raise argparse.ArgumentTypeError(
        f"must be one of {', '.join(words)}; got {text!r}.{meant_word(parameter, text, words)}"
    )


#: Values of parameters as words of options.
_WORDS = {"None": "none", "True": "yes", "False": "no"}


def meant_word(parameter: str, text: str, known: Sequence[str]) -> str:
    """Return a question with the words that a text may mean as a value of a parameter, or ""."""
    values = meant_values(parameter, text, known)
    # A network with weights has its name in an object of Python.
    plain = [re.sub(r"^Pretrained\((.*)\)$", r"\1", value).strip("'") for value in values]
    words = [_WORDS.get(word, word) for word in plain]
    found = [word for word in words if word in known or "/" in word]
    return f" Did you mean {' or '.join(found)}?" if found else did_you_mean(text, known)


#: A parameter that a text sets, such as "splits=". Paths and code hold others.
_SETTING = re.compile(r"(?<![\w.'\"/\\-])([a-z_][a-z0-9_]*)=")
#: Parameters of the loaders that have no option.
_OF_PYTHON = ("reader", "transform", "dtype", "input_shape", "cache_bytes")
_PLAIN_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?\w+(?:\.\w+)*")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def _is_in_call(text: str, place: int) -> bool:
    """Tell whether a place of a text is an argument of a call, as in ``np.array(y, dtype=str)``."""
    n_closed = 0
    for i in reversed(range(place)):
        n_closed += (text[i] == ")") - (text[i] == "(")
        if n_closed < 0:
            return text[i - 1 : i].isidentifier() or text[i - 1 : i].isdigit()
    return False


def _value_at(text: str, start: int) -> str:
    """Return the value that begins at a place of a text, as Python writes it, or ""."""
    if text[start : start + 1] not in _CLOSING:
        match = _PLAIN_VALUE.match(text, start)
        return "" if match is None else match[0]
    open_ones: list[str] = []
    at = start
    while at < len(text):
        quoted = _PLAIN_VALUE.match(text, at) if text[at] in "'\"" else None
        if text[at] in _CLOSING:
            open_ones.append(_CLOSING[text[at]])
        elif open_ones and text[at] == open_ones[-1]:
            open_ones.pop()
        at += 1 if quoted is None else len(quoted[0])
        if not open_ones:
            return text[start:at]
    return ""


def as_arguments(option: str, value: str) -> str:
    """Return an option with a value of Python, written as text, as a user types it."""
    known = value.replace(", ...", "")
    try:
        given = ast.literal_eval(known)
    except (SyntaxError, ValueError):  # a word, or no value
        return f"{option} {value}".rstrip()
    if given is None or isinstance(given, bool):
        return f"no {option}" if given is None else option
    return as_typed(option, given) + (",..." if known != value and isinstance(given, dict) else "")


def as_typed(option: str, value: object) -> str:
    """Return an option with a value as a user types it."""
    if value is True:
        return option
    if isinstance(value, Mapping):
        words = [",".join(f"{name}={part or 'none'}" for name, part in value.items()) or "none"]
    elif isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        words = [",".join(value)]
    else:
        words = [str(item) for item in (value if isinstance(value, list | tuple) else [value])]
    # A text that begins like an option is no option behind an equals sign.
    sign = "=" if words[0].startswith("-") and isinstance(value, str) else " "
    return option + sign + " ".join(map(in_shell, words))


def in_shell(text: str) -> str:
    """Quote a word for a POSIX shell. Bytes that are not text are written by their numbers."""
    raw = text.encode("utf-8", "surrogateescape")
    if text.isprintable():
        return shlex.quote(text)
    signs = [chr(b) if 32 <= b < 127 and chr(b) not in "\\'" else f"\\{b:03o}" for b in raw]
    return f"$'{''.join(signs)}'"


class OneOrSeveral(argparse.Action):
    """Store one number for all axes as it is, and several as a tuple."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the values."""
        numbers = tuple(values or ())
        setattr(namespace, self.dest, numbers[0] if len(numbers) == 1 else numbers)


def count(text: str) -> int:
    """Take a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}.")
    return int(text)


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return a question with the known names that resemble a text, or ""."""
    close = difflib.get_close_matches(text, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def jobs(text: str) -> int:
    """Take a count, or -1 for all processors."""
    return -1 if text == "-1" else count(text)


def seed(text: str) -> int:
    """Take a seed of numpy's generators."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0 to 2^32 - 1; got {text!r}."
        )
    return int(text)


def positive(text: str) -> float:
    """Take a finite number above 0."""
    if not 0 < (value := _number(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0; got {text!r}.")
    return value


def not_negative(text: str) -> float:
    """Take a finite number of at least 0."""
    if not 0 <= (value := _number(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0; got {text!r}.")
    return value


def _number(text: str) -> float:
    """Return the number that a text is, or NaN."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def auto_or(number: Callable[[str], float], text: str, words: Sequence[str] = ("auto",)) -> object:
    """Take a word, which is auto unless others are given, or a value that ``number`` accepts."""
    try:
        return text if text in words else number(text)
    except argparse.ArgumentTypeError as error:
        message = str(error).replace("must be", f"must be {', '.join(words)} or", 1)
        raise argparse.ArgumentTypeError(f"{message}{did_you_mean(text, words)}") from None


def names(text: str) -> list[str]:
    """Take names between commas."""
    return text.split(",")


def number_or_word(text: str) -> float | str:
    """Take a number for a number, and all else for the name of a rule."""
    try:
        return float(text)
    except ValueError:
        return text


def one_line(message: object) -> str:
    """Return a message without line breaks."""
    return " ".join(str(message).split())


def split_names(text: str) -> dict[str, str | None]:
    """Take a part for each name, as in "fold1=train,extra=none", or none for no names."""
    if text == "none":
        return {}
    pairs = [pair.rpartition("=") for pair in names(text)]
    if not all(name and part in (*SPLITS, "none") for name, _, part in pairs):
        raise argparse.ArgumentTypeError(
            f"must be none, or NAME=PART with the parts {', '.join(SPLITS)} or none; got {text!r}."
        )
    return {name: None if part == "none" else part for name, _, part in pairs}


def option(names: str, words: str, **settings: object) -> tuple[str, Mapping[str, Any]]:
    """Return the names of an option, and its settings for argparse with the words for --help."""
    if "default" in settings:
        words = f"{words} (default: %(default)s)"
    return names, {"help": words, **settings}
