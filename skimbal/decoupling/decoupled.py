"""Networks whose decisions are learnt apart from their features."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    TransformerMixin,
    clone,
)
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, _safe_indexing, check_random_state, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, has_fit_parameter

from skimbal.augmentation import AugmentSpec, get_augmentation
from skimbal.classifiers.base import BaseCNNClassifier
from skimbal.decoupling.heads import NearestMean, choose_tau, normalize, rescale, retrain
from skimbal.decoupling.layer import Training, check_last_layer
from skimbal.decoupling.rows import Part, split
from skimbal.exceptions import ParameterError
from skimbal.habits import explains_names
from skimbal.networks import Pretrained, SliceNet
from skimbal.sampling import SamplerSpec, check_neighbours, check_sampler, naming_neighbours
from skimbal.thresholds.training_prior import Labels, find_training_prior, shares_of
from skimbal.thresholds.wrapping import (
    adopt_features,
    check_constraints,
    check_labels,
    check_same_classes,
)
from skimbal.typing import (
    ArrayLike,
    Classifier,
    ImagesLike,
    PathLike,
    RandomState,
    Resampler,
    Splitter,
)

__all__ = ["DecoupledClassifier", "HeadSpec"]

#: Values of ``head=``: a name, or a classifier of scikit-learn, such as a pipeline.
HeadSpec: TypeAlias = str | Classifier
#: Images, labels, weights and groups of some rows.
_Rows: TypeAlias = tuple[Any, np.ndarray, np.ndarray | None, np.ndarray | None]
#: Heads that are the last layer of the network with other weights.
_LAYERS = ("crt", "lws", "tau")
#: The heads that use a parameter, "other" for classifiers of scikit-learn.
_USED_BY = {
    "sampler": ("crt", "lws", "other"),
    "augment": ("crt", "lws"),
    "tau": ("tau",),
    "max_epochs": ("crt", "lws"),
    "lr": ("crt", "lws"),
}


@dataclass(frozen=True, eq=False)
class _Member:
    """A network with the head that decides by its features."""

    network: BaseCNNClassifier
    #: None if the head is the last layer of the network.
    head: Any
    #: Prior that the probabilities refer to, or the reason why it is not known.
    prior: np.ndarray | str
    #: The strength of "tau", or the scales of "lws".
    learnt: Any = None

    @property
    def decider(self) -> Any:
        """The estimator whose methods decide."""
        return self.network if self.head is None else self.head

    def call(self, method: str, X: ImagesLike) -> np.ndarray:
        """Call a method of the estimator that decides."""
        given = X if self.head is None else _features(self.network, X)
        result: np.ndarray = getattr(self.decider, method)(given)
        return result


def _features(network: BaseCNNClassifier, X: ImagesLike) -> np.ndarray:
    # set_output may ask for a frame. Classifiers of scikit-learn are more exact in float64.
    return np.asarray(network.transform(X), dtype=np.float64)


def _predicts_probabilities(wrapper: "DecoupledClassifier") -> bool:
    if isinstance(wrapper.head, str):
        if wrapper.head == "ncm":
            raise AttributeError("head='ncm' has no probabilities. Use decision_function.")
        return True
    wrapper.head.predict_proba  # noqa: B018 - an AttributeError of the head
    return True


def _has_scores(wrapper: "DecoupledClassifier") -> bool:
    if isinstance(wrapper.head, str) or hasattr(wrapper.head, "predict_proba"):
        return True
    wrapper.head.decision_function  # type: ignore[attr-defined]  # noqa: B018
    return True


class DecoupledClassifier(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    MetaEstimatorMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    r"""Learn features by one sampling of the classes, and decisions by another.

    Kang et al. (2020) found that rare classes spoil the last layer of a network more than its
    features. So a network is trained as it is, best with ``sampler="uniform"``, and then its last
    layer is retrained on balanced batches (cRT), rescaled (LWS, tau-normalisation) or replaced by
    another classifier. All other weights stay as they are, bit for bit.

    Parameters
    ----------
    estimator : CNN2DClassifier or CNN3DClassifier
        The classifier whose network computes the features. ``fit`` fits a clone, with the loss,
        the sampler and the other parameters of the classifier. A
        :class:`~sklearn.frozen.FrozenEstimator` of a fitted classifier is not trained, and ``fit``
        learns the head from its rows.
    head : {"crt", "lws", "tau", "ncm"} or classifier, default="crt"
        The method that decides by features:

        - ``"crt"``: the last layer is trained anew from random weights, by cross-entropy.
        - ``"lws"``: the logits :math:`f_k (w_k^\top x + b_k)` with the weights of the network,
          of which only the scales :math:`f_k` are trained, from 1, by cross-entropy.
        - ``"tau"``: the logits :math:`w_k^\top x / \lVert w_k \rVert^\tau`, without biases.
        - ``"ncm"``: the largest cosine with the mean features of a class. It has no
          ``predict_proba``.
        - A classifier of scikit-learn, such as ``LogisticRegression()`` or a pipeline, also of
          imbalanced-learn. ``fit`` fits a clone to features in float64.
    cv : float, int, splitter, iterable or None, default="auto"
        The rows that the head learns from, by their relation to the rows of the network:

        - None: the same rows, as in the paper. The network has learnt their labels.
        - A share, such as 0.3: the network learns from the other rows, and the head from this
          stratified share. One network, and nothing leaks.
        - An integer, a splitter, or pairs of row numbers: a network for each fold, and a head on
          the rows of this fold, which the network has not seen. The features of two networks are
          not comparable, so each head reads the features of its network only. A prediction is the
          mean of the probabilities.

        With ``groups``, shares and folds keep each group on one side. ``"auto"`` is None, and 0.2
        for ``head="tau"`` with ``tau="auto"``. Only ``"auto"`` or None with a
        :class:`~sklearn.frozen.FrozenEstimator`.
    sampler : str, sampler or "auto", default="auto"
        For ``"crt"`` and ``"lws"``, the batches of the head, as ``sampler`` of
        :class:`~skimbal.CNN2DClassifier`. ``"auto"`` is ``"balanced"`` for images. For bare rows it
        is uniform batches with balanced weights of the classes. For a classifier of scikit-learn, a
        sampler of imbalanced-learn that ``fit`` applies to the features first, such as ``SMOTE()``,
        or ``"auto"`` for none.
    augment : str, callable, list of these or None, default=None
        For ``"crt"`` and ``"lws"``, the changes of the images while the head is trained, as
        ``augment`` of :class:`~skimbal.CNN2DClassifier`. If None, the features of each image are
        computed once.
    tau : float or "auto", default="auto"
        For ``"tau"``, the strength :math:`\tau` in [0, 1], dimensionless. ``"auto"`` takes the
        least of 21 values with the best balanced accuracy of the rows of the head.
    max_epochs : int or "auto", default="auto"
        For ``"crt"`` and ``"lws"``, the number of epochs of the head, as for a new network.
    lr : float or "auto", default="auto"
        For ``"crt"`` and ``"lws"``, the largest learning rate of the head, dimensionless.
    random_state : int, RandomState instance or None, default=None
        Seed of splits and heads. Each network, head or sampler whose ``random_state`` is None gets
        a seed of its own, if this is not None.

    Attributes
    ----------
    estimators_ : list of CNN2DClassifier or CNN3DClassifier
        The fitted networks, one unless ``cv`` has folds.
    estimator_ : CNN2DClassifier or CNN3DClassifier
        After ``"crt"``, ``"lws"`` or ``"tau"`` with one network: a fitted classifier with the new
        last layer. It predicts the same, and has all other methods, such as ``to_onnx``. An
        AttributeError says why if there is no such classifier.
    heads_ : list of classifiers
        The fitted heads behind ``estimators_``. Empty for ``"crt"``, ``"lws"`` and ``"tau"``.
    tau_ : ndarray of shape (n_networks,)
        The strengths, after ``head="tau"``.
    scales_ : ndarray of shape (n_networks, n_classes)
        The scales, after ``head="lws"``.
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    class_prior_ : ndarray of shape (n_classes,)
        Share of each class in the rows of ``fit`` by ``sample_weight``, dimensionless, with sum 1.
    effective_prior_ : ndarray of shape (n_classes,)
        Shares of the classes in the population that ``predict_proba`` refers to, dimensionless,
        with sum 1. Uniform after balanced batches of ``"crt"``. An AttributeError says why if it is
        not known, as after ``"lws"`` and ``"tau"``.
    n_features_in_ : int
        Number of pixels times channels of an image.
    feature_names_in_ : ndarray of shape (n_features,)
        Column names, only if X was a DataFrame whose columns are named by text.

    See Also
    --------
    skimbal.thresholds.PriorCorrectedClassifier : Probabilities for the prior of the patients.
    skimbal.CNN2DClassifier : Its ``logit_adjustment`` corrects one network without a second step.

    Notes
    -----
    With two classes, ``"tau"`` and ``"lws"`` hardly change a decision. The gradients of the two
    rows of the last layer are opposite numbers, so the rows stay nearly opposite and equally long,
    and the sign of their difference is the decision for any positive scales.

    A network is surer of rows that it has learnt than of new rows. So a head that learns from the
    same rows (``cv=None``) sees features that new rows do not have. It also sees more rows, and the
    network learns from all of them. In the measurements of the documentation this is worth as much
    or more, unless the network knows its rows by heart, so None is the default. There, ``augment``
    helps more than held-out rows.

    References
    ----------
    Kang, B. et al. (2020). Decoupling representation and classifier for long-tailed recognition.
    ICLR.

    Examples
    --------
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> from skimbal.decoupling import DecoupledClassifier
    >>> data = load_imbalanced_digits()
    >>> cnn = CNN2DClassifier(sampler="uniform", module="small", max_epochs=15, random_state=0)
    >>> clf = DecoupledClassifier(cnn, max_epochs=5, random_state=0)
    >>> clf = clf.fit(data.X_train, data.y_train)
    >>> clf.effective_prior_.round(3), type(clf.estimator_).__name__
    (array([0.333, 0.333, 0.333]), 'CNN2DClassifier')

    SMOTE on the features of held-out rows, and a logistic regression:

    >>> from imblearn.over_sampling import SMOTE
    >>> from sklearn.linear_model import LogisticRegression
    >>> clf = DecoupledClassifier(cnn, head=LogisticRegression(), sampler=SMOTE(), cv=0.4)
    >>> clf.fit(data.X_train, data.y_train).predict(data.X_test).shape
    (216,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "head": [StrOptions({*_LAYERS, "ncm"}), HasMethods(["fit", "predict"])],
        "cv": [
            StrOptions({"auto"}),
            Interval(Integral, 2, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            HasMethods(["split"]),
            "array-like",
            None,
        ],
        "tau": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }
    #: Groups mean the same to every split, so they are requested, as scikit-learn's splitters do.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    classes_: np.ndarray
    class_prior_: np.ndarray
    _members: list[_Member]

    @explains_names
    def __init__(
        self,
        estimator: Classifier,
        *,
        head: HeadSpec = "crt",
        cv: float | str | Splitter | Iterable[Any] | None = "auto",
        sampler: SamplerSpec | Resampler = "auto",
        augment: AugmentSpec = None,
        tau: float | str = "auto",
        max_epochs: int | str = "auto",
        lr: float | str = "auto",
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.head = head
        self.cv = cv
        self.sampler = sampler
        self.augment = augment
        self.tau = tau
        self.max_epochs = max_epochs
        self.lr = lr
        self.random_state = random_state

    def fit(
        self,
        X: ImagesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train the networks, and then the heads.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or rows, as for the classifier.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights for networks and heads, dimensionless and not negative.
        groups : array-like of shape (n_samples,), default=None
            Group of each row, such as the patient of the image, for ``cv`` and the ``train_split``
            of the classifier.

        Returns
        -------
        self : estimator instance
            The fitted estimator.

        Raises
        ------
        ParameterError
            If a parameter cannot be used, or the network does not end in a
            :class:`torch.nn.Linear` that ``head`` could change. The error comes before any
            training.
        ValueError
            If the data cannot be used, or a split lacks a class.

        Warns
        -----
        UserWarning
            If no strength changes a decision with ``tau="auto"``.
        """
        given = np.asarray(y)
        if given.ndim == 2 and given.shape[1] > 1:
            raise ValueError("Multilabel and multioutput targets are not supported.")
        labels = check_labels(X, y)
        weight = None if sample_weight is None else _checked_weight(sample_weight, labels)
        cv = self._check(labels, weight)
        rng = None if self.random_state is None else check_random_state(self.random_state)
        rows: _Rows = X, labels, weight, None if groups is None else np.asarray(groups)
        if cv is not None:
            X, labels, weight, of_row = indexable(*rows)
            rows = X, labels, weight, of_row
        splits = list(split(cv, labels, rows[3], _draw(rng), weight))
        if self._kind == "other" and hasattr(self.sampler, "fit_resample"):
            for _, part in splits:
                check_neighbours(self.sampler, _selected(rows, part)[1])
        _try(self.estimator, self._kind, X, labels)
        members = [self._fitted(rows, parts, rng) for parts in splits]
        self._members, self._head_of_fit = members, self._kind
        self.classes_ = members[0].network.classes_
        shares = shares_of(Labels(labels, weight), np.unique(labels))
        self.class_prior_ = shares[np.isin(np.unique(labels), self.classes_)]
        adopt_features(self, members[0].network)
        return self

    def predict(self, X: ImagesLike) -> np.ndarray:
        """Predict the class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for the classifier.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The prediction of the head. With several networks, the class with the largest mean
            probability.
        """
        check_is_fitted(self)
        if len(self._members) == 1:
            return self._members[0].call("predict", X)
        labels: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    @available_if(_predicts_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ImagesLike) -> np.ndarray:
        """Compute the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for the classifier.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``, of the population of ``effective_prior_``.
        """
        check_is_fitted(self)
        parts = [member.call("predict_proba", X) for member in self._members]
        proba: np.ndarray = parts[0] if len(parts) == 1 else np.mean(parts, axis=0)
        return proba

    @available_if(_predicts_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: ImagesLike) -> np.ndarray:
        """Compute the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for the classifier.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Natural logarithms, dimensionless, in the order of ``classes_``.
        """
        check_is_fitted(self)
        if len(self._members) == 1 and hasattr(self._members[0].decider, "predict_log_proba"):
            return self._members[0].call("predict_log_proba", X)
        with np.errstate(divide="ignore"):
            log_proba: np.ndarray = np.log(self.predict_proba(X))
        return log_proba

    @available_if(_has_scores)  # type: ignore[untyped-decorator]
    def decision_function(self, X: ImagesLike) -> np.ndarray:
        """Compute a score of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for the classifier.

        Returns
        -------
        score : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits of the network, cosines (``"ncm"``) or the scores of the head, dimensionless. For
            two classes, the score of ``classes_[1]``. With several networks or a head without
            ``decision_function``, log-probabilities, for two classes the log-odds.
        """
        check_is_fitted(self)
        if len(self._members) == 1 and hasattr(self._members[0].decider, "decision_function"):
            return self._members[0].call("decision_function", X)
        scores: np.ndarray = self.predict_log_proba(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def transform(self, X: ImagesLike) -> np.ndarray:
        """Compute the features that the head reads.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for the classifier.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features_out)
            As ``transform`` of the classifier.

        Raises
        ------
        ValueError
            If ``cv`` has made several networks.
        """
        check_is_fitted(self)
        n_networks = len(self._members)
        if n_networks > 1:
            raise ValueError(
                "cv must be None or a share for transform, as the features of two networks are not "
                f"comparable; got {n_networks} networks. Use transform of each of estimators_."
            )
        features: np.ndarray = np.asarray(self._members[0].network.transform(X))
        return features

    def save(
        self,
        path: PathLike,
        *,
        scores: Mapping[str, float | str] | None = None,
        description: str | None = None,
        license: str | None = None,
    ) -> None:
        """Write ``estimator_`` to a file, which :func:`skimbal.load` reads as such a classifier.

        Parameters
        ----------
        path : str or path-like
            The file, such as ``"model.skimbal"``.
        scores : dict of str to float or str, default=None
            Scores for the card.
        description, license : str, default=None
            Text for the card.

        Raises
        ------
        TypeError
            If there is no ``estimator_``, as with heads of scikit-learn or several networks.
        """
        check_is_fitted(self)
        reason = self._why_not_one()
        if reason:
            raise TypeError(
                f"save must be called after a fit of one classifier that the file can hold. "
                f"{reason} Use pickle or joblib."
            )
        self.estimator_.save(path, scores=scores, description=description, license=license)

    @property
    def estimators_(self) -> list[BaseCNNClassifier]:
        """The fitted networks."""
        return [member.network for member in self._fitted_members()]

    @property
    def heads_(self) -> list[Classifier]:
        """The fitted heads, unless they are the last layers of the networks."""
        heads = [member.head for member in self._fitted_members()]
        return [head for head in heads if head is not None]

    @property
    def estimator_(self) -> BaseCNNClassifier:
        """The classifier of this package that predicts the same."""
        (member, *_), reason = self._fitted_members(), self._why_not_one()
        if reason:
            raise AttributeError(reason)
        return member.network

    @property
    def tau_(self) -> np.ndarray:
        """The strength of the normalisation in each network."""
        return self._learnt("tau")

    @property
    def scales_(self) -> np.ndarray:
        """The scales of the logits in each network."""
        return self._learnt("lws")

    @property
    def effective_prior_(self) -> np.ndarray:
        """Shares of the classes that ``predict_proba`` refers to, with sum 1.

        Raises
        ------
        AttributeError
            If the head does not tell.
        """
        priors = [member.prior for member in self._fitted_members()]
        reasons = [prior for prior in priors if isinstance(prior, str)]
        if reasons:
            raise AttributeError(reasons[0])
        mean: np.ndarray = np.mean(np.asarray(priors), axis=0)
        return mean

    @property
    def _n_features_out(self) -> int:
        """Number of features that ``transform`` gives, which scikit-learn asks for."""
        return self._members[0].network.net_.count_features()

    def __sklearn_tags__(self) -> Tags:
        """Return the abilities: any input that the classifier takes."""
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags, tags.transformer_tags = inner.input_tags, inner.transformer_tags
        return tags

    # Inside ----------------------------------------------------------------------------------

    def _fitted_members(self) -> list[_Member]:
        if not hasattr(self, "_members"):
            raise AttributeError(f"This {type(self).__name__} is not fitted.")
        return self._members

    def _why_not_one(self) -> str:
        """Return the reason why no classifier of this package predicts the same."""
        if self._members[0].head is not None:
            return f"The network is followed by another head, {self._members[0].head!r}."
        n_networks = len(self._members)
        return f"A prediction is the mean of {n_networks} networks." if n_networks > 1 else ""

    def _learnt(self, head: str) -> np.ndarray:
        members = self._fitted_members()
        if self._head_of_fit != head:
            raise AttributeError(f"Only after a fit with head={head!r}.")
        return np.array([member.learnt for member in members])

    @property
    def _kind(self) -> str:
        return self.head if isinstance(self.head, str) else "other"

    def _check(self, labels: np.ndarray, weight: np.ndarray | None) -> Any:
        """Refuse parameters that cannot be used, and return ``cv`` with a value for "auto"."""
        check_constraints(self)
        if isinstance(self.cv, str) and self.cv != "auto":  # a text has a method split, too
            remedy = "For a classifier that is fitted already, pass FrozenEstimator(classifier)."
            raise ParameterError(
                "cv", "a share, a number of folds, a splitter, None or 'auto'", self.cv, remedy
            )
        defaults = DecoupledClassifier(self.estimator).get_params(deep=False)
        for name, heads in _USED_BY.items():
            value, default = getattr(self, name), defaults[name]
            if self._kind not in heads and not (value is default or value == default):
                raise ParameterError(name, f"{default!r} for this head", value)
        _check_estimator(self.estimator, self._kind)
        self._check_head(labels, weight)
        is_auto = isinstance(self.cv, str)
        if not (is_auto or self.cv is None or isinstance(self.cv, float)):
            self._check_probabilities()
        chooses = self._kind == "tau" and self.tau == "auto"
        cv = (0.2 if chooses else None) if is_auto else self.cv
        if self._is_frozen:
            if cv is not None and not is_auto:
                remedy = "The rows of fit are the rows of the head."
                raise ParameterError("cv", "None with a FrozenEstimator", cv, remedy)
            return None
        if self._kind == "tau" and chooses == (cv is None):
            expected = "a share or folds with tau='auto'" if chooses else "None with a given tau"
            raise ParameterError("cv", expected, cv, "A head with a given tau needs no rows.")
        return cv

    @property
    def _is_frozen(self) -> bool:
        return isinstance(self.estimator, FrozenEstimator)

    def _check_probabilities(self) -> None:
        if self._kind == "ncm" or (
            self._kind == "other" and not hasattr(self.head, "predict_proba")
        ):
            raise ParameterError(
                "head",
                "a head with predict_proba for the folds of cv, as a prediction is a mean",
                self.head,
                "Use a share as cv, or cv=None.",
            )

    def _check_head(self, labels: np.ndarray, weight: np.ndarray | None) -> None:
        """Refuse a sampler, changes of the images or weights that the head cannot use."""
        has_sampler = not isinstance(self.sampler, str) or self.sampler != "auto"
        if isinstance(self.head, type):
            remedy = f"Write head={self.head.__name__}()."
            raise ParameterError("head", "an instance of a classifier", self.head, remedy)
        if self._kind in ("crt", "lws"):
            get_augmentation(self.augment, len(_classifier(self.estimator).spatial_axes))
            if has_sampler:
                _check_batches(self.head, self.sampler, labels)
            return
        if has_sampler and not hasattr(self.sampler, "fit_resample"):
            raise ParameterError(
                "sampler",
                "'auto' or a sampler of imbalanced-learn for this head",
                self.sampler,
                "Pass an object, such as RandomOverSampler() or SMOTE(), which resamples the "
                "features. Names of samplers are for the batches of head='crt'.",
            )
        takes_weight = self._kind != "other" or has_fit_parameter(self.head, "sample_weight")
        if weight is not None and isinstance(self.head, Pipeline):
            raise ParameterError(
                "sample_weight",
                "None for a pipeline as head, which does not pass weights on to its steps",
                "weights",
                "Leave sample_weight out, or pass the last step alone as head.",
            )
        if weight is not None and (has_sampler or not takes_weight):
            raise ParameterError(
                "sample_weight",
                "None for a head that takes no sample_weight, and with a sampler",
                "weights",
                "Leave sample_weight out, or take another head.",
            )

    def _fitted(
        self, rows: _Rows, parts: tuple[Part, Part], rng: np.random.RandomState | None
    ) -> _Member:
        """Fit a network to a part of the rows, and its head to another."""
        of_network, of_head = (_selected(rows, part) for part in parts)
        X, y, weight, _ = of_head
        if isinstance(self.estimator, FrozenEstimator):
            network: Any = self.estimator.estimator
            check_same_classes(network, y)
            if self._kind in _LAYERS:  # which changes it
                network = copy.deepcopy(network)
        else:
            network = _seeded(self.estimator, rng)
            network.fit(*of_network)
        if self._kind not in _LAYERS:
            head = NearestMean() if self._kind == "ncm" else _seeded(self.head, rng)
            sampler = None if isinstance(self.sampler, str) else _seeded(self.sampler, rng)
            prior = _learnt_from(head, sampler, _features(network, X), y, weight)
            return _Member(network, head, prior)
        check_last_layer(network, X)
        learnt: Any = None
        parameters = {"max_epochs": self.max_epochs, "lr": self.lr, "random_state": _draw(rng)}
        training = Training(X, y, weight, self.sampler, self.augment, parameters)
        if self._kind == "tau":
            learnt = choose_tau(network, X, y, weight) if self.tau == "auto" else self.tau
            normalize(network, learnt)
        elif self._kind == "lws":
            learnt = rescale(network, training)
        else:
            retrain(network, training)
        try:
            prior = network.effective_prior_
        except AttributeError as error:
            prior = str(error)
        return _Member(network, None, prior, learnt)


def _checked_weight(sample_weight: ArrayLike, labels: np.ndarray) -> np.ndarray:
    """Return weights of the rows in float64."""
    weight: np.ndarray = _check_sample_weight(
        sample_weight, labels, dtype=np.float64, ensure_non_negative=True
    )
    return weight


def _classifier(estimator: Any) -> BaseCNNClassifier:
    """Return the classifier of this package, which may be frozen."""
    inner: Any = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if not isinstance(inner, BaseCNNClassifier):
        raise ParameterError(
            "estimator",
            "a CNN2DClassifier, a CNN3DClassifier or a FrozenEstimator of one of them",
            type(inner).__name__,
            "Put the DecoupledClassifier at the end of a pipeline, and into a search, which sets "
            "parameters as estimator__lr.",
        )
    return inner


def _check_estimator(estimator: Any, head: str) -> None:
    """Refuse a classifier whose parameters do not suit a head."""
    inner, is_frozen = _classifier(estimator), isinstance(estimator, FrozenEstimator)
    if is_frozen:
        check_is_fitted(inner, "net_")
    wrong = []
    if inner.logit_adjustment:
        remedy = "The head corrects for class frequency, and both together correct twice."
        wrong.append(("logit_adjustment", "0", remedy))
    if inner.distributed:
        wrong.append(("distributed", "False", "Train the network first, and freeze it."))
    is_random = inner.max_epochs == 0
    if head in ("tau", "lws") and is_random:
        wrong.append(
            ("max_epochs", "at least 1 for this head", "The last layer has random weights.")
        )
    if head in ("ncm", "other") and inner.n_tta not in (1, "auto"):
        remedy = "Features are computed of the images as they are."
        wrong.append(("n_tta", "'auto' or 1 for this head", remedy))
    for name, expected, remedy in wrong:
        raise ParameterError(f"estimator__{name}", expected, getattr(inner, name), remedy)


def _check_batches(head: HeadSpec, sampler: SamplerSpec, labels: np.ndarray) -> None:
    """Refuse a sampler that cannot draw the batches of a last layer."""
    try:
        check_sampler(sampler, labels)
    except ParameterError as error:
        is_object = hasattr(sampler, "fit_resample")
        # The advice of a classifier, which resamples images before the training.
        if not is_object and "NDSampler" not in error.remedy:
            raise
        raise ParameterError(
            "sampler",
            f"'auto' or a sampler that only selects rows for head={head!r}",
            sampler,
            "The batches of this head are drawn by row number. To resample features, pass "
            f"head=LogisticRegression(), sampler={sampler if is_object else 'SMOTE()'}.",
        ) from None


def _try(estimator: Any, head: str, X: ImagesLike, y: np.ndarray) -> None:
    """Refuse a network of the user that a head cannot change, before it is trained."""
    if head not in _LAYERS:
        return
    inner: Any = _classifier(estimator)
    if isinstance(estimator, FrozenEstimator):
        check_last_layer(inner, X)
        return
    is_known = isinstance(inner.module, str) or type(inner.module) in (Pretrained, SliceNet)
    if is_known and inner.feature_layer is None:
        return
    _, first = np.unique(y, return_index=True)
    few = _safe_indexing(X, np.repeat(first, 2))
    trial = clone(inner).set_params(max_epochs=0, train_split=None, callbacks=None)
    check_last_layer(trial.fit(few, np.repeat(y[first], 2)), few)


def _learnt_from(
    head: Any,
    sampler: Any,
    features: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
) -> np.ndarray | str:
    """Fit a head of scikit-learn to features, and return the prior of its probabilities."""
    if sampler is not None:
        with naming_neighbours(sampler, y):
            features, y = sampler.fit_resample(features, y)
    given = {} if weight is None else {"sample_weight": weight}
    with naming_neighbours(head, y, "head"):
        head.fit(features, y, **given)
    if not hasattr(head, "predict_proba"):
        return "The head has no probabilities."
    try:
        return find_training_prior(head, Labels(y, weight)).shares
    except ParameterError as error:
        return error.remedy


def _selected(rows: _Rows, part: Part) -> _Rows:
    """Return a part of the rows."""
    if part is None:
        return rows
    X, y, *others = rows
    weight, groups = (None if entry is None else entry[part] for entry in others)
    return _safe_indexing(X, part), y[part], weight, groups


def _draw(rng: np.random.RandomState | None) -> int | None:
    return None if rng is None else int(rng.randint(np.iinfo(np.int32).max))


def _seeded(estimator: Any, rng: np.random.RandomState | None) -> Any:
    """Return a clone, with a seed for each part of it that has none."""
    cloned = clone(estimator)
    if rng is None:
        return cloned
    names = [
        name
        for name, value in sorted(cloned.get_params().items())
        if value is None and name.rpartition("__")[2] == "random_state"
    ]
    return cloned.set_params(**{name: _draw(rng) for name in names})
