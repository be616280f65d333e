"""The classifier of this package inside of a classifier, and its facts."""

from sklearn.utils.validation import check_is_fitted

from skimbal.classifiers import CNN2DClassifier, CNN3DClassifier
from skimbal.wording import plural

__all__ = ["CNN", "describe_model", "find_cnn", "predicts_by_argmax"]

CNN = CNN2DClassifier | CNN3DClassifier
#: Most estimators within each other.
_DEPTH = 5


def find_cnn(clf: object) -> CNN | None:
    """Find the classifier of this package at the end of a pipeline or inside of another."""
    for _ in range(_DEPTH):
        if isinstance(clf, CNN):
            return clf
        inner = _inner(clf)
        if inner is None:
            return None
        clf = inner
    return None


def _inner(clf: object) -> object | None:
    """Return the fitted classifier that another classifier asks for probabilities."""
    steps = getattr(clf, "steps", None)
    if steps:
        return steps[-1][1]  # type: ignore[no-any-return]
    calibrated = getattr(clf, "calibrated_classifiers_", None)
    if calibrated:
        return calibrated[0].estimator  # type: ignore[no-any-return]
    for name in ("best_estimator_", "estimator_", "estimator"):
        if getattr(clf, name, None) is not None:
            return getattr(clf, name)  # type: ignore[no-any-return]
    return None


def predicts_by_argmax(clf: object) -> bool:
    """Tell whether a classifier is known to predict the most probable class."""
    steps = getattr(clf, "steps", None)
    last = steps[-1][1] if steps else clf
    known = (CNN2DClassifier.predict, CNN3DClassifier.predict)
    return getattr(type(last), "predict", None) in known


def describe_model(clf: object) -> list[tuple[str, str]]:
    """Return facts of a classifier, each with its name."""
    if clf is None:
        return []
    facts = [("Classifier", _shown(clf))]
    cnn = find_cnn(clf)
    if cnn is None:
        return facts
    check_is_fitted(cnn)
    form = cnn.input_
    size = " × ".join(map(str, form.shape))
    axes = ", ".join(("channels", *form.axes))
    known = zip(cnn.classes_, cnn.class_count_, cnn.class_prior_, strict=True)
    counts = ", ".join(f"{label} {n:,.6g} ({100 * share:.1f} %)" for label, n, share in known)
    facts += [
        ("Input", f"{size} ({axes}), {form.dtype}" + (f", {form.scale}" if form.scale else "")),
        ("Classes in training", counts),
        ("Loss", str(cnn.loss)),
        ("Sampler", str(cnn.sampler)),
        ("Network", _shown(cnn.module)),
        ("Training", f"{plural(cnn.n_epochs_, 'epoch')}, {plural(cnn.n_steps_, 'step')}"),
    ]
    if clf is not cnn:
        facts.append(("Inner classifier", _shown(cnn)))
    return facts


def _shown(value: object) -> str:
    return " ".join((value if isinstance(value, str) else repr(value)).split())
