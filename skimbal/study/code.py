"""Code that trains a configuration of a study, and judges it on rows that are unseen."""

import ast
import builtins
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sklearn import config_context
from sklearn.pipeline import Pipeline

from skimbal.study.plan import final_step
from skimbal.study.scores import score_code
from skimbal.study.source import Source
from skimbal.study.words import Study
from skimbal.typing import Classifier
from skimbal.wording import agree, plural

__all__ = ["confirm_in_words", "write_code"]

#: Modules of the names that the code uses beside the types of the estimator.
_MODULES = {
    "array": "numpy",
    "inf": "math",
    "nan": "math",
    "ImageFiles": "skimbal.images",
    "concatenate": "skimbal.images",
    "evaluate": "skimbal.evaluation",
    "average_precision_score": "sklearn.metrics",
    "balanced_accuracy_score": "sklearn.metrics",
    "f1_score": "sklearn.metrics",
    "get_scorer": "sklearn.metrics",
    "log_loss": "sklearn.metrics",
    "matthews_corrcoef": "sklearn.metrics",
    "roc_auc_score": "sklearn.metrics",
    "load_image_folder": "skimbal.datasets",
    "load_imbalanced_digits": "skimbal.datasets",
    "load_medmnist": "skimbal.datasets",
    "load_npz": "skimbal.datasets",
}
#: Names that are modules, with the lines that import them.
_WHOLE_MODULES = {"np": "import numpy as np", "joblib": "import joblib"}
#: Names that the lines bind, or that comments ask the user to bind.
_VARIABLES = {"clf", "data", "groups", "paths", "score", "scorer", "X", "X_test", "y", "y_test"}
_IN_WORDS = {"train": "training", "val": "validation", "test": "test"}


def write_code(study: Study, loss: str, sampler: str) -> str:
    """Write code that trains a configuration on the rows of a study and judges it on others.

    Parameters
    ----------
    study : LossStudy
        A study.
    loss, sampler : str
        Names of a configuration.

    Returns
    -------
    code : str
        Python code that loads the rows, fits ``clf`` to all rows that the fits of the study had,
        prints the score of rows that the study has not seen, and saves the classifier. Comments
        name the parts that only the user knows: functions, whose ``repr`` is not code, the rows of
        a study without ``source``, and unseen rows if the data set has none.
    """
    estimator = study.make_estimator(loss, sampler)
    params = study.configuration(loss, sampler).params
    types = {kind.__name__: kind for kind in _types((estimator, params))}
    made = f"clf = {_indented(_estimator_text(estimator))}"
    lines = [*_loading(study.source), "", made, _fitting(study, estimator), ""]
    lines += [*_judging(study), *_saving(study, estimator)]
    names, comments = _names("\n".join(lines), types)
    imports, more = _imports(names - _VARIABLES, types)
    doubts = [confirm_in_words(study)] if _shares_groups(study.source) else []
    head = [f"# {comment}" for comment in (*doubts, *_open_ends(study), *comments, *more)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*head, *imports, "", *lines]))


def confirm_in_words(study: Study) -> str:
    """Say which rows can confirm the best configuration.

    Parameters
    ----------
    study : LossStudy
        A study.

    Returns
    -------
    text : str
        Which rows the study has not seen, or the remedy if there are none.
    """
    source = study.source
    if source is None or not source.parts:
        return "Confirm the choice on rows that had no part in the study."
    if source.unseen:
        part = source.unseen[0]
        rows = plural(part.n_rows, f"{_IN_WORDS[part.name]} row")
        if part.n_shared:
            return (
                f"Warning: {plural(part.n_shared, 'group')} of the {rows} of the data "
                f"{agree(part.n_shared, 'has', 'have')} rows in the study, too, so the score of "
                "these rows will be too high. Split the data by group."
            )
        return f"The {rows} of the data had no part in the study and can confirm its choice."
    return (
        "The study has seen all rows of the data, so none of them can confirm its choice. Score "
        "the classifier on new images. Before the next study, keep rows aside: in a folder test "
        "beside a folder train, by a column of the table with train and test, or as the arrays "
        "test_images and test_labels of an .npz file."
    )


def _shares_groups(source: Source | None) -> bool:
    return source is not None and any(part.n_shared for part in source.unseen[:1])


def _indented(text: str) -> str:
    """Indent all lines but the first, so that they stand after ``clf = ``."""
    return textwrap.indent(text, " " * len("clf = ")).lstrip()


def _estimator_text(estimator: Any) -> str:
    """Return the repr of an estimator, without the addresses of objects."""
    with config_context(print_changed_only=True):
        return re.sub(r" at 0x[0-9a-f]+", "", estimator.__repr__(N_CHAR_MAX=10_000))


def _open_ends(study: Study) -> list[str]:
    """Return comments on names that only the user can bind."""
    source = study.source
    needed = []
    if source is None:
        needed.append("X and y to the rows of the study")
    elif not source.parts:
        needed.append("paths to the files of the study, and y to their labels")
    if "groups" in _fitted_groups(study, study.estimator).split("="):
        needed.append("groups to the groups of these rows")
    if source is None or not source.parts:
        needed.append("X_test and y_test to rows that had no part in it")
    if study.scoring == "score":
        needed.append("scorer to the scoring of the study")
    return [f"Bind {', '.join(needed)}."] if needed else []


def _loading(source: Source | None) -> list[str]:
    """Return lines that bind X and y to all rows that the fits had."""
    if source is None:
        return []
    if not source.parts:
        call = source.origin.code()
        return [f"X = {call.replace('(', '(paths, ', 1)}".replace(", )", ")")]
    lines = [f"data = {source.origin.code()}", f"X = {_joined(source, 'X')}"]
    return [*lines, *_labels("y", _joined(source, "y"), source)]


def _labels(name: str, code: str, source: Source) -> list[str]:
    """Return lines that bind labels, with the names of classes if the study had names."""
    lines = [f"{name} = {code}"]
    if source.has_names:
        lines.append(f"{name} = np.array(data.target_names)[np.searchsorted(data.classes, {name})]")
    return lines


def _joined(source: Source, what: str) -> str:
    """Return code for the images, labels or groups of the parts that the fits had."""
    arrays = [_rows_of(part, what) for part in source.parts]
    if len(arrays) == 1:
        return arrays[0]
    function = "concatenate" if what == "X" and source.has_files else "np.concatenate"
    return f"{function}([{', '.join(arrays)}])"


def _rows_of(part: str, what: str) -> str:
    return f"data.{what}_{part}" if part else f"data.{what}"


def _fitting(study: Study, estimator: Classifier) -> str:
    return f"clf.fit(X, y{_fitted_groups(study, estimator)})"


def _fitted_groups(study: Study, estimator: Classifier) -> str:
    """Return the argument of fit that brings groups to a validation split, or ""."""
    if not study.data.n_groups or final_step(estimator).train_split is None:
        return ""
    step = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
    source = study.source
    known = source is not None and source.has_groups
    return f", {step}groups={_joined(source, 'groups') if source and known else 'groups'}"


def _judging(study: Study) -> list[str]:
    """Return lines that judge the classifier on unseen rows, as comments if there are none."""
    source = study.source
    groups, lines = "", []
    if source is not None and source.unseen:
        part = source.unseen[0]
        lines = [f"X_test = {_rows_of(part.name, 'X')}"]
        lines += _labels("y_test", _rows_of(part.name, "y"), source)
        groups = f", groups={_rows_of(part.name, 'groups')}" if part.has_groups else ""
        # A patient of several classes has no class of its own.
        groups += ", pool=None" if part.has_mixed_groups else ""
    title = study.title().replace("{", "{{").replace("}", "}}")
    shown = f"{title} of {{len(y_test)}} unseen rows: {{score:.3f}}"
    lines += [
        f"score = {score_code(study.scoring, study.classes, study.data)}",
        f"print(f{shown!r})",
        f"print(evaluate(clf, X_test, y_test{groups}, random_state={study.seed}).summary())",
    ]
    if source is None or source.unseen or not source.parts:
        return lines
    head = "The study has seen all rows. Bind X_test and y_test to rows that had no part in it:"
    return [f"# {line}" for line in (head, *lines)]


def _saving(study: Study, estimator: Classifier) -> list[str]:
    """Return lines that save the classifier, or a pipeline whose earlier steps only make rows."""
    source = study.source
    is_judged = source is None or bool(source.unseen) or not source.parts
    scores = f", scores={{{study.title()!r}: score}}" if is_judged else ""
    if not isinstance(estimator, Pipeline):
        return [f"clf.save('model.skimbal'{scores})"]
    if all(hasattr(step, "fit_resample") for _, step in estimator.steps[:-1]):
        return [f"clf[-1].save('model.skimbal'{scores})"]
    return ["joblib.dump(clf, 'model.joblib')"]


def _names(text: str, types: Mapping[str, type]) -> tuple[set[str], list[str]]:
    """Return the names that the code uses, and comments on its holes."""
    comments = []
    try:
        tree = ast.parse(text)
    except SyntaxError:
        known = {*types, *_MODULES, *_WHOLE_MODULES}
        code = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
        names = {name for name in known if re.search(rf"(?<![\w.]){re.escape(name)}[.(]", code)}
        holes = dict.fromkeys(re.findall(r"<[^<>]*(?:<[^<>]*>[^<>]*)*>", text))
        what = ", ".join(holes) or "some of the arguments"
        comments.append(f"Replace the parts that are not code: {what}.")
    else:
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names -= {name for name in names if name in dir(builtins)}
    if re.search(r", \.\.\.[\])}]", text):
        comments.append("Replace ... by the values that are not shown.")
    return names, comments


def _imports(names: Iterable[str], types: Mapping[str, type]) -> tuple[list[str], list[str]]:
    """Return lines that import the names, and comments on the names that they cannot import."""
    imports: dict[str, set[str]] = {}
    lines, comments = [], []
    for name in sorted(names):
        if name in types and hasattr(types[name], "state_dict"):
            comments.append(f"Check the arguments of {name}: a torch module does not show all.")
        module = _MODULES.get(name) or _public_module(types.get(name))
        if name in _WHOLE_MODULES:
            lines.append(_WHOLE_MODULES[name])
        elif module is not None:
            imports.setdefault(module, set()).add(name)
        else:
            comments.append(f"Import or define {name}.")
    lines += [f"from {module} import {', '.join(sorted(imports[module]))}" for module in imports]
    return sorted(lines), comments


def _types(value: object) -> Iterator[type]:
    """Yield the types of an estimator and of all its parameters."""
    if isinstance(value, type):
        yield value
        return
    yield type(value)
    children: Iterable[object] = ()
    if hasattr(value, "get_params"):
        children = value.get_params(deep=False).values()
    elif isinstance(value, Mapping):
        children = value.values()
    elif isinstance(value, list | tuple | set):
        children = value
    for child in children:
        yield from _types(child)


def _public_module(kind: type | None) -> str | None:
    """Return the shortest name of a public module that holds a class."""
    parts = [] if kind is None else kind.__module__.split(".")
    for n in range(1, len(parts) + 1):
        if parts[n - 1].startswith("_"):
            break
        module = ".".join(parts[:n])
        if kind is not None and getattr(sys.modules.get(module), kind.__name__, None) is kind:
            return module
    return None
