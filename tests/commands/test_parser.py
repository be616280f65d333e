"""Texts of the library in the options of the command line."""

from argparse import ArgumentTypeError

import pytest

from skimbal.commands.classifier import DEFAULTS, options_of_classifiers
from skimbal.commands.options import OF_DATA, OF_FILES, OF_FOLDERS
from skimbal.commands.parser import Parser, not_negative
from skimbal.exceptions import ParameterError
from skimbal.images import ImageOptions


@pytest.fixture
def parser():
    parser = Parser("skimbal", "A parser.")
    parser.add_options({**OF_FILES, **OF_DATA, **OF_FOLDERS})
    return parser


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pass splits={}.", "pass --splits none."),
        ("splits={'Tr': 'train', 'x': None}. If", "--splits Tr=train,x=none. If"),
        ("such as splits={'one': 'train', ...}. If", "such as --splits one=train,.... If"),
        ("splits={'a, b}': 'test'}", "--splits 'a, b}=test'"),
        ("missing_values=[] if", "--missing-values '' if"),
        ("missing_values=['NA', '-9'].", "--missing-values NA,-9."),
        ("pass on_error='skip' to", "pass --on-error skip to"),
        ("(encoding='cp1252')", "(--encoding cp1252)"),
        ("channel_axis=-1, or n_spatial=3", "--channel-axis -1, or --spatial-axes 3"),
        ("size=(16, 16)", "--size 16 16"),
        ("size=16", "--size 16"),
        ("spacing=0.5.", "--spacing 0.5."),
        ("intensity=(-160, 240)", "--intensity -160 240"),
        ("resize='crop'.", "--resize crop."),
        ("max_pixels=<number>", "--max-pixels<number>"),
        ("cache=None", "no --image-cache"),
        ("in a table, labels=.", "in a table, --labels."),
        ("split_column=, or", "--split-column, or"),
        ("give size= or spacing= three", "give --size or --spacing three"),
        ("splits={'a': ", "--splits{'a': "),
        ("/data/size=3/a.png", "/data/size=3/a.png"),
        ("labels.argmax(axis=1)", "labels.argmax(axis=1)"),
        ("np.array(labels, dtype=str)", "np.array(labels, dtype=str)"),
        ("f(a, g(b), size=3), size=3 (size=3)", "f(a, g(b), size=3), --size 3 (--size 3)"),
        ("see split_column", "see split_column Here, split_column is --split-column."),
        (
            "pass a reader=.",
            "pass a reader=. Here, reader= is a parameter of Python alone.",
        ),
        (
            "give transform= or reader= here",
            "give transform= or reader= here Here, transform= and reader= are parameters of "
            "Python alone.",
        ),
    ],
)
def test_texts_in_options(parser, text, words):
    worded = parser.in_options(text)
    assert worded == words or (words is None and worded.startswith(text))


def test_options_that_take_the_word_none():
    parser = Parser("skimbal", "A parser.")
    parser.add_options({"pool": ("--pool", {"choices": ("mean", "none")})})
    assert parser.in_options("pass pool=None, or pool='mean'") == "pass --pool none, or --pool mean"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--augment", "mixp"], "got 'mixp'. Did you mean mixup or remix?"),
        (["--augment", "hflip"], "Did you mean flip?"),
        (["--standardize", "true"], "Did you mean yes?"),
        (["--dtype", "fp16"], "Did you mean float16?"),
        (["--lr-schedule", "off"], "Did you mean none?"),
        (["--lr-schedule", "step"], "must be one of cosine, one_cycle, none; got 'step'.\n"),
        (["--module", "resnet50"], "Did you mean timm/resnet50?"),
        (["--module", "cnn"], "Did you mean small?"),
        (["--n-tta", "flip"], "Did you mean flips?"),
    ],
)
def test_values_are_refused_with_the_word_that_is_meant(given, said, capsys):
    parser = Parser("skimbal", "A parser.")
    parser.add_options(options_of_classifiers(DEFAULTS))
    with pytest.raises(SystemExit):
        parser.parse_args(given)
    assert said in capsys.readouterr().err


def test_help_shows_the_words_of_an_option(capsys):
    parser = Parser("skimbal", "A parser.")
    parser.add_options(options_of_classifiers(DEFAULTS))
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "--standardize {auto,yes,no}" in capsys.readouterr().out


def test_options_of_other_commands_are_told(parser, capsys):
    parser.add_absent({"cut": ("--cut --crop", {})}, "Images are whole.")
    for given in ("--crop", "--crop=3"):
        with pytest.raises(SystemExit):
            parser.parse_args([given])
        said = "skimbal: error: --crop is not an option of skimbal. Images are whole.\n"
        assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("0.0", 0), (".0", 0), ("0.5", 0.5), ("1e-4", 1e-4)]
)
def test_numbers_that_are_not_negative(text, number):
    assert not_negative(text) == number


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "x", "", "."])
def test_texts_that_are_no_such_number(text):
    with pytest.raises(ArgumentTypeError, match="must be a number"):
        not_negative(text)


def test_errors_in_options(parser):
    error = ParameterError("splits", "a name", {}, "Pass on_error='skip'.")
    assert parser.worded(error) == "--splits must be a name; got {}. Pass --on-error skip."
    assert parser.worded(ValueError("splits={}"), "data: ") == "data: --splits none"


def test_every_parameter_of_files_has_an_option_or_is_of_python(parser):
    for name in ImageOptions.__annotations__:
        text = f"give {name}=3."
        assert parser.in_options(text) != text, name
