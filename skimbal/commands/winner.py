"""The commands that train the best configuration of a study, and judge it on unseen rows."""

import argparse
from collections.abc import Mapping

from skimbal.commands.classifier import DEFAULTS, options_of_classifiers
from skimbal.commands.options import OF_ARRAYS, OF_DATA, OF_FOLDERS, OF_GROUPS, OF_LISTING
from skimbal.commands.parser import Options, as_typed, in_shell
from skimbal.study import LossStudy

__all__ = ["evaluation_command", "winner_commands"]

#: Options of data that the test rows have, too. Reading is the model's matter, and each test image
#: is read once.
_OF_TEST_ROWS = {
    name: option
    for name, option in {**OF_GROUPS, **OF_ARRAYS, **OF_DATA, **OF_LISTING}.items()
    if name != "cache"
}


def winner_commands(args: argparse.Namespace, study: LossStudy) -> list[str]:
    """Return the command that fits, and the command that judges if there are unseen rows."""
    source = study.source
    if source is None:
        return []
    best = study.best
    params = study.configuration(best.loss, best.sampler).params
    # The origin has absolute paths, and the study sets the length of an epoch.
    values = {**vars(args), **params, **source.origin.named}
    is_path = source.origin.function in ("load_npz", "load_image_folder")
    data = str(source.origin.positional[0]) if is_path else args.data
    unseen = [part.name for part in source.unseen]
    words = [
        "skimbal fit",
        in_shell(data),
        *_given(values, {**OF_GROUPS, **OF_ARRAYS, **OF_DATA, **OF_FOLDERS}),
        as_typed("--loss", params["loss"]),
        as_typed("--sampler", params["sampler"]),
        *_given(values, options_of_classifiers(DEFAULTS)),
        # Without the option, the validation rows train, too.
        *(["--parts train"] if "val" in unseen else []),
        as_typed("--seed", study.seed),
        "--output model.skimbal",
    ]
    commands = [" ".join(words)]
    if unseen:
        pool = "none" if source.unseen[0].has_mixed_groups else ""
        html = "" if args.html is None else "evaluation.html"
        more = {"--parts": unseen[0] if unseen[0] != "test" else "", "--pool": pool, "--html": html}
        commands.append(evaluation_command("model.skimbal", data, values, more))
    return commands


def evaluation_command(
    model: str, data: str, values: Mapping[str, object], more: Mapping[str, str]
) -> str:
    """Return the command that judges a model, with the options of its data and more options."""
    words = ["skimbal evaluate", in_shell(model), in_shell(data), *_given(values, _OF_TEST_ROWS)]
    return " ".join([*words, *(as_typed(option, text) for option, text in more.items() if text)])


def _given(values: Mapping[str, object], options: Options) -> list[str]:
    """Return the options whose values are not their defaults."""
    return [
        as_typed(text.split()[0], values[name])
        for name, (text, settings) in options.items()
        if values.get(name) is not None and values[name] != settings.get("default")
    ]
