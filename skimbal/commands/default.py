"""The command line without a command: the losses of the paper on a test split."""

from collections.abc import Sequence
from functools import partial

from skimbal import CNN2DClassifier, LossMix, __version__
from skimbal.commands import COMMANDS
from skimbal.commands.classifier import check_choices, make_estimator, options_of_classifiers
from skimbal.commands.data import DATA, load_data
from skimbal.commands.options import COUNT, CSV_FILE
from skimbal.commands.outputs import check_output
from skimbal.commands.parser import Options, Parser, did_you_mean, option
from skimbal.commands.rows import rows_of_study
from skimbal.commands.studies import INTERRUPT, options_of_configurations, run_study
from skimbal.signals import Signals
from skimbal.study import PAPER_LOSSES, compare_losses

__all__ = ["run"]

#: A classifier whose many fits must end in two minutes.
_PLAIN = CNN2DClassifier(module="small", augment=None, max_epochs=8, batch_size=64)


def run(argv: Sequence[str], signals: Signals) -> int:
    """Fit the losses of the paper as they were proposed, and judge them on the test split."""
    parser = Parser(
        "skimbal",
        "Without a command: fit a small CNN on the training split with several losses at several "
        "samplings, each as it was proposed and without a warm-up, and compare their scores on the "
        "test split. The validation split is not used.",
        usage="skimbal [options]\n       skimbal COMMAND ...",
        epilog=f"The commands are {', '.join(COMMANDS)}. Each has its own --help. 'skimbal info "
        "DATA' lists the content of a data set. 'skimbal compare DATA' finds the loss for your "
        "data, by cross-validation or on the test split, with intervals and a report. 'skimbal fit "
        "DATA' writes a model to a file, 'skimbal evaluate' judges it, 'skimbal predict' makes a "
        f"table of its predictions, and 'skimbal export' writes it as ONNX. {INTERRUPT}",
    )
    parser.add_options(_options_of_default())
    parser.add_options(options_of_configurations(", ".join(PAPER_LOSSES)))
    parser.add_options(options_of_classifiers(_PLAIN))
    parser.add_argument("--version", action="version", version=f"skimbal {__version__}")
    parser.set_defaults(test=True, data_option="--data ", groups=None)
    if argv and not argv[0].startswith("-"):
        parser.error(
            f"the command must be {', '.join(COMMANDS)} or an option; got {argv[0]!r}."
            f"{did_you_mean(argv[0], COMMANDS)}"
        )
    args = parser.parse_args(argv)
    check_output(parser, "--output", args.output)
    check_choices(parser, args)
    data = load_data(parser, args)
    rows, note = rows_of_study(parser, args, data)
    compare = partial(
        compare_losses,
        **rows,
        losses=_as_proposed(args.losses or PAPER_LOSSES),
        samplers=args.samplers,
        estimator=make_estimator(parser, args, data),
        n_repeats=args.n_repeats,
        random_state=0,
    )
    return run_study(parser, args.data, compare, signals, note=note, csv=args.output)


def _options_of_default() -> Options:
    return {
        "data": option(
            "--data", f"{DATA} in the form of MedMNIST", default="digits", metavar="NAME|FILE.npz"
        ),
        "n_repeats": option("--seeds", "fits of each configuration", default=3, **COUNT),
        "output": option(
            "--output",
            "new file for the table, unrounded. An existing file is not overwritten",
            **CSV_FILE,
        ),
    }


def _as_proposed(losses: Sequence[str]) -> Sequence[str] | dict[str, LossMix]:
    """Return the losses by their names, without the warm-up that the paper does not have."""
    if len(set(losses)) < len(losses):
        return losses  # which the study refuses
    return {name: LossMix.from_expression(name, warmup_epochs=0) for name in losses}
