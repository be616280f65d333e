"""Probabilities for another prior, given or estimated."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import MetadataRouter
from sklearn.utils.validation import check_is_fitted

from skimbal.exceptions import ParameterError, warn_caller
from skimbal.habits import explains_names
from skimbal.thresholds.estimation import Estimate, bias_of, most_likely_prior, prior_of_labelled
from skimbal.thresholds.training_prior import (
    Labels,
    find_training_prior,
    is_fitted_before,
    shares_of,
)
from skimbal.thresholds.wrapping import (
    DecidingClassifier,
    by_name,
    check_constraints,
    check_labels,
    check_predicting,
    check_same_classes,
    log_probabilities,
    refuse_path,
    route,
)
from skimbal.typing import ArrayLike, Classifier, ImagesLike, is_number

__all__ = ["PriorCorrectedClassifier", "PriorSpec"]

#: Shares of the classes: by label, in the order of the classes, or a word.
PriorSpec: TypeAlias = Mapping[Any, float] | ArrayLike | str
_REMEDY = "Shares are above 0 and sum to 1."


class PriorCorrectedClassifier(DecidingClassifier):
    r"""Move the probabilities of a classifier from its training prior to another prior.

    .. math:: P'(k \mid x) \propto P(k \mid x)\, \pi'_k / \pi_k

    with the prior :math:`\pi` that the probabilities refer to and the prior :math:`\pi'` of the
    population in which decisions are made (Elkan, 2001). A network that was trained on balanced
    batches gives probabilities for a population in which the classes are equally common. With the
    prior of the patients they are risks. The correction supposes that the images *of each class*
    look the same in both populations, and that the probabilities are calibrated: scale the
    temperature first.

    Parameters
    ----------
    estimator : classifier
        A classifier with ``predict_proba``. ``fit`` fits a clone. Wrap a classifier that is fitted
        already in a :class:`~sklearn.frozen.FrozenEstimator`.
    prior : dict, array-like of shape (n_classes,) or str, default="labels"
        The prior to move to: shares by class label, shares in the order of ``classes_``, the shares
        of the labels in ``fit`` (``"labels"``), equal shares (``"uniform"``), or the shares that
        make the unlabelled rows ``X_unlabelled`` of ``fit`` the most likely (``"estimated"``).
    training_prior : dict, array-like of shape (n_classes,) or str, default="auto"
        The prior that the probabilities of the classifier refer to, as ``prior``, or ``"auto"``.
        ``"estimated"`` is the prior
        whose correction gives each class, on average over the rows of ``fit``, its share of their
        labels. It needs a :class:`~sklearn.frozen.FrozenEstimator` and rows that did not train the
        classifier, and is right for a network that knows its rare training rows by heart, too.
        ``"auto"`` is
        ``effective_prior_`` of the classifiers of this package, which know their sampler, class
        weights, loss and ``logit_adjustment``, the prior of discriminant analysis and naive Bayes,
        and otherwise the shares of the labels in ``fit``, multiplied by ``class_weight``. It looks
        into pipelines, searches and calibrated classifiers: temperature scaling keeps the prior,
        and other methods of calibration move it to the labels that they were fitted with. If
        the prior cannot be known, ``"auto"`` is refused.
    max_iter : int, default=2000
        Most iterations of the estimation of a prior.
    tol : float, default=1e-7
        Bound on the gain of the mean log-likelihood of a row by further iterations, dimensionless.
        For ``training_prior="estimated"``, largest relative difference between a mean probability
        and a share.

    Attributes
    ----------
    estimator_ : classifier
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    prior_, training_prior_ : ndarray of shape (n_classes,)
        The two priors in the order of ``classes_``, dimensionless, with sum 1.
    prior_of_class_ : dict
        ``prior_`` by class label.
    training_prior_origin_ : str
        The origin of ``training_prior_`` in words.
    n_iter_ : int
        Number of iterations of an estimation, and 1 for a given prior.
    n_features_in_ : int
        Number of features, if the classifier has this attribute.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if the classifier has this attribute.

    See Also
    --------
    sklearn.calibration.CalibratedClassifierCV : Calibration, before this.
    CostMatrixClassifier : Decisions by costs and risks, after this.

    Notes
    -----
    A probability of exactly 0 or 1, as forests give, stays as it is. The prior is estimated by the
    iteration of Saerens et al. (2002). The likelihood is concave, and the iteration ends when
    no other prior can raise its mean by more than ``tol``.

    References
    ----------
    Elkan, C. (2001). The foundations of cost-sensitive learning. IJCAI, 973-978.

    Saerens, M., Latinne, P. and Decaestecker, C. (2002). Adjusting the outputs of a classifier to
    new a priori probabilities: a simple procedure. Neural Computation 14(1), 21-41.

    Examples
    --------
    A network that was trained on balanced batches, and the risks among patients of whom one in
    ten has class 1:

    >>> from sklearn.frozen import FrozenEstimator
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> from skimbal.thresholds import PriorCorrectedClassifier
    >>> data = load_imbalanced_digits()
    >>> clf = CNN2DClassifier(sampler="balanced", module="small", max_epochs=2, random_state=0)
    >>> clf = clf.fit(data.X_train, data.y_train)
    >>> shares = dict(zip(clf.classes_.tolist(), [0.8, 0.1, 0.1]))
    >>> risks = PriorCorrectedClassifier(FrozenEstimator(clf), prior=shares)
    >>> risks = risks.fit(data.X_train, data.y_train)
    >>> risks.training_prior_.round(3), risks.training_prior_origin_
    (array([0.333, 0.333, 0.333]), 'effective_prior_ of CNN2DClassifier')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "prior": [dict, "array-like", StrOptions({"labels", "uniform", "estimated"})],
        "training_prior": [
            dict,
            "array-like",
            StrOptions({"auto", "labels", "uniform", "estimated"}),
        ],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
    }
    #: Unlabelled rows have one meaning, so they are requested, as groups are.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"X_unlabelled": True}

    prior_: np.ndarray
    training_prior_: np.ndarray

    @explains_names
    def __init__(
        self,
        estimator: Classifier,
        *,
        prior: PriorSpec = "labels",
        training_prior: PriorSpec = "auto",
        max_iter: int = 2000,
        tol: float = 1e-7,
    ) -> None:
        self.estimator = estimator
        self.prior = prior
        self.training_prior = training_prior
        self.max_iter = max_iter
        self.tol = tol

    def fit(
        self, X: ImagesLike, y: ArrayLike, X_unlabelled: ImagesLike | None = None, **params: Any
    ) -> Self:
        """Fit a clone of the classifier, and find the two priors.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            As for the classifier.
        y : array-like of shape (n_samples,)
            Class labels.
        X_unlabelled : array-like of shape (n_unlabelled, ...), default=None
            Rows of the population of the decisions, for ``prior="estimated"``.
        **params : dict
            Metadata for ``fit`` of the classifier, if metadata routing is enabled. A
            ``sample_weight`` for the classifier counts in the shares of the labels.

        Returns
        -------
        self : estimator instance
            The fitted estimator.

        Raises
        ------
        ParameterError
            If a prior does not fit the classes, has a share of 0 or cannot be known.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If ``max_iter`` ended the estimation.
        UserWarning
            If a class is estimated to be in less than one row, or most rows have a probability of
            exactly 1. Also if a classifier that was fitted before gives the rows of ``fit`` a mean
            probability, corrected to the shares of their labels, that is more than three standard
            errors from the share: its probabilities do not refer to ``training_prior_``.
        """
        check_constraints(self)
        is_word = isinstance(self.prior, str)
        estimates = is_word and self.prior == "estimated"
        if estimates and X_unlabelled is None:
            raise ParameterError(
                "X_unlabelled", "given with prior='estimated'", None, "Or call fit_prior."
            )
        if X_unlabelled is not None and not estimates:
            raise ParameterError(
                "X_unlabelled", "None unless prior='estimated'", type(X_unlabelled).__name__
            )
        refuse_path(X)
        X, y = indexable(X, y)
        found = check_labels(X, y)
        routed = route(self, params)
        weight = routed.estimator.fit.get("sample_weight")
        fitted = clone(self.estimator).fit(X, found, **routed.estimator.fit)
        check_same_classes(fitted, found, needs_all=False)
        labels = Labels(found, None if weight is None else np.asarray(weight, dtype=float))
        self._adopt(fitted)
        self.n_iter_ = 1
        if X_unlabelled is None:  # a wrong prior is refused before any row is predicted
            self._set_prior(_shares("prior", self.prior, self.classes_, labels))
        self._find_training_prior(labels, X)
        return self if X_unlabelled is None else self.fit_prior(X_unlabelled)

    def fit_prior(self, X_unlabelled: ImagesLike) -> Self:
        """Estimate the prior of unlabelled rows, such as the images of another month or hospital.

        No label is needed, and the classifier is not trained. Needs a call of ``fit`` before, or an
        ``estimator`` that is fitted and knows its prior.

        Parameters
        ----------
        X_unlabelled : array-like of shape (n_unlabelled, ...)
            Rows of the population of the decisions.

        Returns
        -------
        self : estimator instance
            The estimator with the estimate as ``prior_``.

        Raises
        ------
        NotFittedError
            If neither this estimator nor the given classifier is fitted.
        ParameterError
            If the training prior has a share of 0 or cannot be known.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning, UserWarning
            As for ``fit``.
        """
        check_constraints(self)
        check_predicting(self)
        if not hasattr(self, "training_prior_"):
            self._adopt(self.estimator)
            self._find_training_prior(None, None)
        log_proba = log_probabilities(self.estimator_, X_unlabelled)
        estimate = most_likely_prior(log_proba, self.training_prior_, self.max_iter, self.tol)
        self._warn_of_iterations("prior", estimate)
        self._set_prior(estimate.prior)
        self._warn_of_estimate(log_proba)
        return self

    @property
    def effective_prior_(self) -> np.ndarray:
        """The prior that ``predict_proba`` refers to, which is ``prior_``."""
        return self.prior_

    # Inside ----------------------------------------------------------------------------------

    def _log_proba(self, X: ImagesLike) -> np.ndarray:
        check_is_fitted(self, "prior_")
        moved = log_probabilities(self.estimator_, X) + np.log(self.prior_ / self.training_prior_)
        log_proba: np.ndarray = moved - logsumexp(moved, axis=1, keepdims=True)
        return log_proba

    def _proba(self, X: ImagesLike) -> np.ndarray:
        proba: np.ndarray = np.exp(self._log_proba(X))
        return proba

    def _scores(self, X: ImagesLike) -> np.ndarray:
        return self._log_proba(X)

    def _add_routes(self, router: MetadataRouter) -> MetadataRouter:
        """Keep ``X_unlabelled`` here."""
        return super()._add_routes(router.add_self_request(self))

    def _find_training_prior(self, labels: Labels | None, X: ImagesLike | None) -> None:
        given = self.training_prior
        name = given if isinstance(given, str) else "given"
        # Rows that did not train the classifier tell whether its probabilities are right.
        log_proba = None
        if X is not None and is_fitted_before(self.estimator):
            log_proba = log_probabilities(self.estimator_, X)
        if name == "estimated":
            shares, origin = self._estimated_training_prior(log_proba, labels), "estimated"
        elif name == "auto":
            shares, origin = find_training_prior(self.estimator_, labels)
        else:
            shares = _shares("training_prior", given, self.classes_, labels)
            origin = "labels of the fit" if name == "labels" else name
        self.training_prior_origin_ = origin
        self.training_prior_ = _above_zero("training_prior", shares, self.classes_)
        if log_proba is not None and labels is not None and name != "estimated":
            self._warn_of_bias(log_proba, labels)

    def _estimated_training_prior(
        self, log_proba: np.ndarray | None, labels: Labels | None
    ) -> np.ndarray:
        if log_proba is None or labels is None:
            raise ParameterError(
                "training_prior",
                "known, unless fit has a FrozenEstimator and rows that did not train it",
                "estimated",
                "Call fit of PriorCorrectedClassifier(FrozenEstimator(fitted_classifier), "
                "training_prior='estimated') with labelled rows.",
            )
        _above_zero("training_prior", shares_of(labels, self.classes_), self.classes_)
        estimate = prior_of_labelled(log_proba, labels, self.classes_, self.max_iter, self.tol)
        self._warn_of_iterations("training_prior", estimate)
        return estimate.prior

    def _warn_of_iterations(self, name: str, estimate: Estimate) -> None:
        self.n_iter_ = estimate.n_iter
        if estimate.gap > self.tol:
            warn_caller(
                f"The estimate of {name} has not converged in {estimate.n_iter} iterations, with "
                f"{estimate.gap:.2g} in place of tol={self.tol:g}. Raise max_iter, or tol.",
                ConvergenceWarning,
            )

    def _warn_of_bias(self, log_proba: np.ndarray, labels: Labels) -> None:
        """Warn if the mean probability of labelled rows is far from their share."""
        shares = shares_of(labels, self.classes_)
        if not shares.all():
            return
        mean, error = bias_of(log_proba, self.training_prior_, labels, self.classes_)
        worst = int(np.argmax(np.abs(mean - shares) / np.maximum(error, 1e-12)))
        if abs(mean[worst] - shares[worst]) > 3 * error[worst] + 1e-6:
            warn_caller(
                f"The class {self.classes_[worst].item()!r} has a share of {shares[worst]:.3g} in "
                f"y, and a mean probability of {mean[worst]:.3g} after the correction, so the "
                "probabilities do not refer to the training prior "
                f"({self.training_prior_origin_}). A network may know repeated rows by heart. Set "
                "training_prior='estimated', which these rows tell."
            )

    def _set_prior(self, shares: np.ndarray) -> None:
        self.prior_ = _above_zero("prior", shares, self.classes_)
        self.prior_of_class_ = dict(zip(self.classes_.tolist(), shares.tolist(), strict=True))

    def _warn_of_estimate(self, log_proba: np.ndarray) -> None:
        n_rows = len(log_proba)
        rare = [label for label, share in self.prior_of_class_.items() if share * n_rows < 0.5]
        if rare:
            warn_caller(
                f"The estimated share of the class {rare[0]!r} is "
                f"{self.prior_of_class_[rare[0]]:.2g}, which is less than half of one of the "
                f"{n_rows} unlabelled rows. Hardly any row will be predicted as this class. Use "
                "more rows, or give prior."
            )
        n_certain = int((log_proba.max(axis=1) == 0).sum())
        if 2 * n_certain > n_rows:
            warn_caller(
                f"{n_certain} of the {n_rows} unlabelled rows have a probability of exactly 1, "
                "which no prior changes. The estimate counts decisions. Calibrate the classifier "
                "first, such as by CalibratedClassifierCV(method='temperature')."
            )


def _shares(name: str, given: PriorSpec, classes: np.ndarray, labels: Labels | None) -> np.ndarray:
    """Return shares in the order of the classes."""
    n_classes = len(classes)
    if isinstance(given, str):
        if given == "uniform":
            return np.full(n_classes, 1 / n_classes)
        if labels is None:
            raise ParameterError(name, "given without labels", given, "Call fit with labels.")
        return shares_of(labels, classes)
    expected = f"a share for each class of {classes.tolist()}, in this order, with sum 1"
    if isinstance(given, Mapping):
        expected = f"a share for each class of {classes.tolist()}, with sum 1"
        values = by_name(name, given, classes, _REMEDY)
    else:
        values = list(np.asarray(given, dtype=object).ravel().tolist())
    is_fitting = len(values) == n_classes and all(map(is_number, values))
    if not is_fitting or abs(sum(map(float, values)) - 1) > 1e-6:  # type: ignore[arg-type]
        raise ParameterError(name, expected, given, _REMEDY)
    return np.array(values, dtype=float)


def _above_zero(name: str, shares: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Refuse a class without a share, whose probability would be 0 or not a number."""
    if not (shares > 0).all():
        label = classes[int(np.argmin(shares))].item()
        raise ParameterError(
            name,
            f"above 0 for each class of {classes.tolist()}",
            shares.tolist(),
            f"The class {label!r} has no share. A small share keeps it possible.",
        )
    found: np.ndarray = shares / shares.sum()
    return found
