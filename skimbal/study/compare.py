"""Compare losses and samplers: the plan, the fits, the study."""

import numpy as np
from sklearn.utils import Bunch

from skimbal.exceptions import ParameterError
from skimbal.habits import explains_names
from skimbal.study.fit_cache import FitCache
from skimbal.study.leaks import warn_of_leaks
from skimbal.study.plan import (
    Folds,
    Losses,
    Samplers,
    Split,
    check_data,
    check_estimator,
    check_groups_arrive,
    check_splits,
    combine,
    cv_splits,
    derive_seed,
    describe_splitting,
    final_step,
    study_seed,
)
from skimbal.study.results import LossStudy
from skimbal.study.runs import run_fits
from skimbal.study.scores import Scorer, check_scoring
from skimbal.study.sharing import check_alone
from skimbal.study.source import find_source
from skimbal.typing import ArrayLike, Classifier, ImagesLike, PathLike, RandomState, is_integer

__all__ = ["compare_losses"]


@explains_names
def compare_losses(
    X: ImagesLike,
    y: ArrayLike,
    *,
    losses: Losses | None = None,
    samplers: Samplers | None = None,
    estimator: Classifier | None = None,
    cv: Folds = None,
    groups: ArrayLike | None = None,
    scoring: str | Scorer = "balanced_accuracy",
    baseline: str | None = None,
    n_repeats: int = 1,
    n_jobs: int | None = None,
    random_state: RandomState = None,
    X_test: ImagesLike | None = None,
    y_test: ArrayLike | None = None,
    groups_test: ArrayLike | None = None,
    cache_dir: PathLike | None = None,
    check_copies: bool = True,
    source: Bunch | None = None,
    verbose: int | bool = 1,
) -> LossStudy:
    r"""Compare losses and samplers by repeated cross-validation, or on a fixed test set.

    Folds, initial weights and number of gradient steps are the same for every configuration. An
    epoch has the same number of batches with every sampler, so that balanced sampling does not
    train longer.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Images, as the classifiers take them. Image files are read in the fits only.
    y : array-like of shape (n_samples,)
        Class labels.
    losses : sequence or mapping, default=None
        Values of ``loss=`` of the classifiers: names, expressions, :class:`~skimbal.LossMix`,
        modules. The keys of a mapping are their names in tables. Its values may also be dicts of
        classifier parameters, such as ``{"post hoc": {"loss": "ce", "logit_adjustment": 1.0}}``.
        If None, the losses of the paper.
    samplers : sequence or mapping, default=None
        Values of ``sampler=`` of the classifiers. If None, ``"uniform"`` and ``"balanced"``. Each
        loss is combined with each sampler. Without ``losses``, the study has the 15
        configurations of the paper: ``ce``, ``focal``, ``f1``, ``mcc``, ``ce+f1`` and ``ce+mcc``
        under both samplers, ``wce``, ``wce+f1`` and ``wce+mcc`` under uniform.
    estimator : estimator, default=None
        A classifier of this package, or a pipeline that ends in a classifier of this package. If
        None, a :class:`~skimbal.CNN2DClassifier` or :class:`~skimbal.CNN3DClassifier` that suits
        the shape of ``X``: four axes are volumes unless the second has length 1 or 3.
    cv : int, splitter or iterable of (train, test), default=None
        Number of stratified folds (5 if None), of :class:`~sklearn.model_selection.StratifiedKFold`
        or, with ``groups``, :class:`~sklearn.model_selection.StratifiedGroupKFold`. Or your splits.
    groups : array-like of shape (n_samples,), default=None
        Such as patients. No group is on both sides of a split. The fits pass them to
        ``train_split`` of the estimator.
    scoring : str or callable, default="balanced_accuracy"
        The score that ranks: one of the scores below, a scorer of scikit-learn by name, or a
        callable ``(estimator, X, y)`` of which more is better, called ``"score"`` in the table. All
        studies have ``"balanced_accuracy"``, ``"f1_macro"``, ``"matthews_corrcoef"``,
        ``"roc_auc_ovr"`` (macro, one against the rest), ``"average_precision_rarest"`` (of the
        class with the fewest rows, and of equals the first by its label), ``"log_loss"``,
        ``"brier_score"`` and ``"f1[label]"`` for each class. A scorer of scikit-learn that has a
        positive class, such as ``"f1"``, needs the labels 0 and 1 in numbers.
    baseline : str, default=None
        Name of the loss that all others are compared with at the same sampler. If None, it is plain
        cross-entropy, and plain ``wce`` for losses that add a term to ``wce`` (likewise for your
        terms that weigh classes). The name of a loss does not matter: the loss must have no other
        term. Of several such losses, the reference is the loss with the fewest other settings, and
        the first of equals.
    n_repeats : int, default=1
        How often the folds are drawn anew. With ``X_test``, the number of seeds.
    n_jobs : int, default=None
        Number of fits at a time, as in joblib.
    random_state : int, RandomState instance or None, default=None
        Seed of folds, weights and batches. The same seed gives the same table on one machine.
    X_test, y_test : array-like, default=None
        A fixed test set instead of cross-validation. The spread is then over seeds alone.
    groups_test : array-like of shape (n_test_samples,), default=None
        Groups of the fixed test set. They must differ from ``groups``. If None, this is not
        checked.
    cache_dir : str or path-like, default=None
        Folder that keeps every finished fit. A study of the same data, estimator and versions goes
        on there, also with further losses, samplers or repeats. Any other study is refused.
        Code counts as it runs and files by their contents, and the error names the part that
        differs. Processes that run the same study with the same folder share the fits, also on
        several machines.
    check_copies : bool, default=True
        Whether images are looked for that occur more than once, with equal pixels. Copies in
        training and test rows, in two classes or in two groups cause a warning and are the first
        conclusions of the study. All images are read once for it, files too.
    source : sklearn.utils.Bunch, default=None
        The data set of :mod:`skimbal.datasets` that ``X``, ``y``, ``X_test`` and ``y_test`` are
        parts of. The report and :meth:`LossStudy.code` then load it, train the best configuration
        on the rows that the study had, and judge it on a part that the study has not seen. Without
        it, their code has names in place of the rows.
    verbose : int or bool, default=1
        1 and True show a progress bar over the fits, 0 and False none.

    Returns
    -------
    study : LossStudy
        The scores of all fits, with tables, pictures and a report.

    Raises
    ------
    ValueError
        Before any fit, for one of these reasons:

        - A loss, sampler, score or baseline is unknown, or the score cannot judge these classes.
        - A class has fewer members (or groups) than folds, or a fold lacks a class.
        - A group is on both sides of a split.
        - ``train_split`` needs groups, and a resampler of the pipeline makes rows without groups.
        - ``cache_dir`` belongs to another study or holds other files.
        - ``source`` does not have these rows.
        - A backend of joblib is set that returns no results one by one, as ``"multiprocessing"``.
        - ``cache_dir`` is given, and several processes train one network with ``distributed=True``.
    OSError
        If ``cache_dir`` cannot be made, read or written to. After the first fit this is a warning.

    Warns
    -----
    UserWarning
        If the same picture is in training and test rows, in two classes or in two groups. If a file
        of ``cache_dir`` is damaged, so that its fit is done again, or if ``cache_dir`` cannot be
        written any more, so that fits are kept in memory only.

    Notes
    -----
    Let :math:`d_j` be the scores of :math:`J` fits less the scores of the reference on the same
    rows. The test statistic is due to Nadeau and Bengio (2003),

    .. math:: t = \bar d / \sqrt{\left(\tfrac{1}{J} + \tfrac{n_2}{n_1}\right) s_d^2},

    with :math:`J - 1` degrees of freedom, :math:`n_1` training and :math:`n_2` test rows. Training
    sets of a cross-validation overlap, and without the second term the test finds differences that
    are not there. On a fixed test set, the second term is 0. The p-values are adjusted for the
    number of comparisons with one score by the method of Holm (1979).

    An error or Ctrl-C may end the fits early. The exception then carries the finished fits as its
    attribute ``study``.

    References
    ----------
    Scholz, D. et al. (2024). Imbalance-aware loss functions improve medical image
    classification. MIDL, PMLR 250, 1341-1356.

    Nadeau, C. and Bengio, Y. (2003). Inference for the generalization error. Machine Learning 52,
    239-281.

    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 65-70.

    Examples
    --------
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> from skimbal.study import compare_losses
    >>> data = load_imbalanced_digits()
    >>> study = compare_losses(
    ...     data.X_train, data.y_train, losses=["ce", "ce+mcc"], samplers=["balanced"],
    ...     estimator=CNN2DClassifier(max_epochs=1), cv=2, random_state=0, verbose=0,
    ... )
    >>> [(e.loss, e.sampler, e.n_fits) for e in study.estimates()]
    [('ce', 'balanced', 2), ('ce+mcc', 'balanced', 2)]
    """
    data = check_data(X, y, groups, X_test, y_test, groups_test)
    found = find_source(source, data)
    estimator = check_estimator(estimator, data.X)
    configurations = combine(losses, samplers, baseline, data, estimator)
    check_groups_arrive(configurations, estimator, data.groups)
    scorers = check_scoring(scoring, data.y, data.classes)
    _check_numbers(n_repeats, verbose)
    cache = None if cache_dir is None else FitCache(cache_dir)
    if cache is not None:
        check_alone(final_step(estimator), cache)
    seed = study_seed(random_state)
    if cache is not None and random_state is None:
        seed = cache.agree_on_seed(seed)
    if data.y_test is None:
        splits = cv_splits(cv, data, int(n_repeats), seed)
        check_splits(splits, data)
    elif cv is not None:
        raise ParameterError(
            "cv", "None with X_test, which is a fixed test set", cv, "Give cv or X_test."
        )
    else:
        splits = [Split(r, 0, None, None, derive_seed(seed, r, 0)) for r in range(n_repeats)]
    study = LossStudy(
        configurations,
        classes=data.classes,
        scoring=scoring if isinstance(scoring, str) else "score",
        estimator=estimator,
        data=data.card(),
        seed=seed,
        splitting=describe_splitting(cv, data, splits),
        n_splits=len(splits),
        has_test_set=data.y_test is not None,
        leaks=warn_of_leaks(data, splits) if check_copies else [],
        source=found,
    )
    run_fits(study, splits, data, scorers, cache=cache, n_jobs=n_jobs, verbose=verbose)
    return study


def _check_numbers(n_repeats: int, verbose: int | bool) -> None:
    if not is_integer(n_repeats) or n_repeats < 1:
        raise ParameterError("n_repeats", "an integer of at least 1", n_repeats)
    if not isinstance(verbose, bool | np.bool_) and not (is_integer(verbose) and verbose >= 0):
        raise ParameterError("verbose", "True, False or an integer of at least 0", verbose)
