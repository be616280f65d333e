"""Model files: their argument, loading, and the errors about them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from skimbal import CNN2DClassifier, CNN3DClassifier, load
from skimbal.commands.data import names_beside
from skimbal.commands.messages import warnings_as_lines
from skimbal.commands.parser import Options, Parser, did_you_mean, option
from skimbal.exceptions import ModelFileError
from skimbal.persistence import read_card

__all__ = ["DEVICE", "Model", "add_model", "load_model", "model_card", "reading_of"]

#: A fitted classifier.
Model: TypeAlias = CNN2DClassifier | CNN3DClassifier

T = TypeVar("T")

DEVICE: Options = {
    "device": option(
        "--device",
        "cpu, cuda, cuda:1, auto, ... (default: the device of the fit, or what there is)",
        metavar="NAME",
    ),
}


def add_model(parser: Parser) -> None:
    """Add MODEL."""
    parser.add_argument(
        "model", metavar="MODEL", help="file of a model, which 'skimbal fit' has written"
    )


def load_model(parser: Parser, args: argparse.Namespace) -> Model:
    """Load the model that the arguments name, to the device that they name."""
    device = getattr(args, "device", None)
    with warnings_as_lines(parser, UserWarning):
        return _read(parser, args.model, lambda path: load(path, device=device))


def model_card(parser: Parser, path: str) -> str:
    """Return the card of a model."""
    return _read(parser, path, read_card)


def reading_of(parser: Parser, args: argparse.Namespace, clf: Model) -> dict[str, Any]:
    """Return the parameters by which the images of the fit were read from files."""
    files = clf.input_.files
    if files is None:
        return {}
    if files.functions:
        names = " and ".join(f"{name}=" for name in files.functions)
        parser.error(
            f"{args.model} was fitted to files with the {names} of a program, which a file does "
            "not hold. Use the model in that program."
        )
    return dict(files.options)


def _read(parser: Parser, path: str, read: Callable[[str], T]) -> T:
    try:
        return read(path)
    except ModelFileError as error:
        parser.error(f"{path} is not a model that can be used. {error.reason} {error.remedy}")
    except FileNotFoundError:
        hint = did_you_mean(Path(path).name, names_beside(Path(path), any_file=True))
        parser.error(f"{path} does not exist.{hint}")
    except OSError as error:
        parser.error(f"{path} cannot be read: {error.strerror}.")
    except (ImportError, ValueError) as error:
        parser.refuse(error, path, path)
