"""``skimbal export``: a model for other programs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from skimbal.commands.messages import print_error, warnings_as_lines
from skimbal.commands.models import add_model, load_model
from skimbal.commands.outputs import check_output
from skimbal.commands.parser import Options, Parser, auto_or, count, option
from skimbal.signals import Signals

__all__ = ["run"]

_OPTIONS: Options = {
    "output": option(
        "--output", "new file for the model", type=Path, required=True, metavar="MODEL.onnx"
    ),
    "n_tta": option(
        "--n-tta",
        "passes over each image, inside the exported model: 1, flips for all mirror images of the "
        "fit, or auto",
        type=partial(auto_or, count, words=("auto", "flips")),
        default=1,
        metavar="1|flips|auto",
    ),
}


def run(argv: Sequence[str], signals: Signals) -> int:
    """Write a model as ONNX."""
    parser = Parser(
        "skimbal export",
        "Write a model as ONNX, for programs that do not have skimbal or Python. The exported "
        "model takes raw pixels and gives the probability of each class. It needs pip install "
        "onnx onnxruntime onnxscript.",
    )
    add_model(parser)
    parser.add_options(_OPTIONS)
    args = parser.parse_args(argv)
    check_output(parser, "--output", args.output)
    clf = load_model(parser, args)
    try:
        with warnings_as_lines(parser, UserWarning):
            clf.to_onnx(args.output, n_tta=args.n_tta)
    except (ImportError, ValueError) as error:
        parser.refuse(error, args.model)
    except OSError as error:
        print_error(f"{args.output}: {error}")
        return 1
    print(f"{args.output} holds the model as ONNX.")
    return 0
