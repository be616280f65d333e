"""Losses and samplers compared fairly on data of one's own.

Every configuration is fitted on the same rows, from the same initial weights, for the same number
of gradient steps, and is judged against its reference *at the same sampling*: a gain over
cross-entropy without sampling would mix two causes.
"""

import copy
import csv
import html
import json
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from scipy import stats
from sklearn import config_context
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    get_scorer,
    get_scorer_names,
    log_loss,
    matthews_corrcoef,
    roc_auc_score,
)
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import (
    _safe_indexing,
    check_consistent_length,
    check_random_state,
    column_or_1d,
)
from tabulate import tabulate
from torch import nn
from tqdm.auto import tqdm

from skimbal.classifiers import CNN2DClassifier, CNN3DClassifier, _from_paths
from skimbal.datasets import DataCard
from skimbal.fit_cache import FitCache, describe, describe_images, digest
from skimbal.losses import MixedLoss, get_loss
from skimbal.sampling import BatchSampler

__all__ = ["Configuration", "Difference", "Estimate", "LossStudy", "compare_losses"]

#: The losses of the paper, and those that it trains with weights instead of sampling.
_LOSSES = ("ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc")
_WEIGHTED_LOSSES = ("wce", "wce+f1", "wce+mcc")

#: Scores that every study has, by scikit-learn's names where it has one; whether more is better.
_SCORES = {
    "balanced_accuracy": True,
    "f1_macro": True,
    "matthews_corrcoef": True,
    "roc_auc_ovr": True,
    "average_precision_rarest": True,
    "log_loss": False,
    "brier_score": False,
}
_TITLES = {
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
    "matthews_corrcoef": "MCC",
    "roc_auc_ovr": "AUC",
    "average_precision_rarest": "AP rarest",
    "log_loss": "log-loss",
    "brier_score": "Brier",
}
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Configuration:
    """A loss and a sampler that are fitted together.

    Parameters
    ----------
    loss, sampler : str
        Their names in tables.
    reference : str or None
        Name of the loss that it is compared with at the same sampler; None for a reference.
    params : dict
        Parameters of the classifier.

    Examples
    --------
    >>> from skimbal.study import Configuration
    >>> Configuration("ce+mcc", "balanced", "ce", {"loss": "ce+mcc", "sampler": "balanced"}).loss
    'ce+mcc'
    """

    loss: str
    sampler: str
    reference: str | None
    params: dict[str, Any]


class Estimate(NamedTuple):
    """Mean of a score over the fits of a configuration, with its spread and 95 % interval.

    Parameters
    ----------
    loss, sampler : str
        Names of the configuration.
    n_fits : int
        Number of finished fits.
    mean, std : float
        Mean of the score and its standard deviation over fits, in units of the score; the latter
        is NaN for one fit.
    low, high : float
        Ends of the 95 % interval of the mean, in the same units; NaN for one fit.

    Examples
    --------
    >>> from skimbal.study import Estimate
    >>> row = Estimate("ce", "balanced", n_fits=5, mean=0.8, std=0.02, low=0.76, high=0.84)
    >>> f"{row.loss}: {row.mean} [{row.low}, {row.high}]"
    'ce: 0.8 [0.76, 0.84]'
    """

    loss: str
    sampler: str
    n_fits: int
    mean: float
    std: float
    low: float
    high: float


class Difference(NamedTuple):
    """Mean paired difference of a score to the reference at the same sampler.

    Parameters
    ----------
    loss, sampler : str
        Names of the configuration.
    reference : str
        Name of the loss that it is compared with at the same sampler.
    mean : float
        Mean over splits of its score minus that of the reference, in units of the score.
    low, high : float
        Ends of the 95 % interval of this difference alone, in the same units; NaN for one fit.
    p_value : float
        Of the test that the difference is zero, adjusted for the number of comparisons, in [0, 1];
        NaN for one fit.

    Examples
    --------
    >>> from skimbal.study import Difference
    >>> row = Difference("ce+mcc", "balanced", "ce", mean=0.02, low=-0.01, high=0.05, p_value=0.3)
    >>> f"{row.loss} less {row.reference}: {row.mean:+}, p {row.p_value}"
    'ce+mcc less ce: +0.02, p 0.3'
    """

    loss: str
    sampler: str
    reference: str
    mean: float
    low: float
    high: float
    p_value: float


class LossStudy:
    """The scores of losses and samplers, as :func:`~skimbal.study.compare_losses` returns them.

    ``print(study)`` shows the table and says which differences are reliable.

    Parameters
    ----------
    configurations : list of Configuration
        Losses and samplers, in the order of the tables.
    classes : ndarray of shape (n_classes,)
        Class labels, sorted.
    scoring : str
        Name of the score that ranks.
    estimator : estimator
        The classifier, or a pipeline that ends in it, whose loss and sampler were varied.
    data : skimbal.datasets.DataCard
        Counts and sizes.
    seed : int
        That of folds, weights and batches.
    splitting : str
        How the test rows were chosen, in words.
    n_splits : int
        Number of fits of each configuration when all are done.
    has_test_set : bool
        Whether the test rows were the same in every fit.

    Attributes
    ----------
    fits : list of dict
        One record for each finished fit: configuration, split, seed, numbers of rows, epochs and
        gradient steps, times in seconds, scores, and the confusion matrix of the test rows.
    versions : dict
        Of the packages that the scores come from.

    See Also
    --------
    compare_losses : Makes one.

    Examples
    --------
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> from skimbal.study import compare_losses
    >>> data = load_imbalanced_digits()
    >>> study = compare_losses(
    ...     data.X_train, data.y_train, losses=["ce", "ce+f1"], samplers=["uniform"],
    ...     estimator=CNN2DClassifier(max_epochs=1), cv=2, random_state=0, verbose=0,
    ... )
    >>> study
    LossStudy(2 configurations, 4 of 4 fits, scoring='balanced_accuracy')
    >>> [(d.loss, d.reference) for d in study.differences("f1_macro")]
    [('ce+f1', 'ce')]
    """

    def __init__(
        self,
        configurations: list[Configuration],
        *,
        classes: np.ndarray,
        scoring: str,
        estimator: Any,
        data: DataCard,
        seed: int,
        splitting: str,
        n_splits: int,
        has_test_set: bool,
    ) -> None:
        self.configurations = configurations
        self.classes = classes
        self.scoring = scoring
        self.estimator = estimator
        self.data = data
        self.seed = seed
        self.splitting = splitting
        self.n_splits = n_splits
        self.has_test_set = has_test_set
        self.fits: list[dict[str, Any]] = []
        self.versions = _versions()

    # Numbers -----------------------------------------------------------------------------

    @property
    def class_names(self) -> list[str]:
        """Class labels as text."""
        return [str(label) for label in self.classes.tolist()]

    @property
    def score_names(self) -> list[str]:
        """Names of the scores, the one that ranks first."""
        return list(dict.fromkeys([self.scoring, *_SCORES, *_f1_names(self.classes)]))

    def greater_is_better(self, score: str) -> bool:
        """Tell whether more of a score is better, as of all but log-loss and Brier score.

        Parameters
        ----------
        score : str
            One of ``score_names``.

        Returns
        -------
        bool
            False for losses.
        """
        return _SCORES.get(self._known(score), True)

    def scores(self, score: str | None = None) -> dict[tuple[str, str], np.ndarray]:
        """Collect a score of the finished fits.

        Parameters
        ----------
        score : str, default=None
            One of ``score_names``; the one that ranks if None.

        Returns
        -------
        scores : dict
            (loss, sampler) mapped to an array of shape (n_fits,), in the order of the splits.
        """
        score = self._known(score)
        return {
            names: np.array([fit["scores"][score] for fit in fits])
            for names, fits in self._by_configuration().items()
        }

    def estimates(self, score: str | None = None) -> list[Estimate]:
        """Estimate a score of each configuration.

        Parameters
        ----------
        score : str, default=None
            One of ``score_names``; the one that ranks if None.

        Returns
        -------
        estimates : list of Estimate
            In the order of ``configurations``; those without a finished fit are left out. The
            interval is that of the mean, with the correction that :func:`compare_losses` names; it
            is NaN for one fit.
        """
        return [
            Estimate(*names, len(values), *self._interval(values, self._ratio(names))[:4])
            for names, values in self.scores(score).items()
        ]

    def differences(self, score: str | None = None) -> list[Difference]:
        """Compare each configuration with its reference at the same sampler, split by split.

        Parameters
        ----------
        score : str, default=None
            One of ``score_names``; the one that ranks if None.

        Returns
        -------
        differences : list of Difference
            The configuration minus its reference, for those that have one.
        """
        score = self._known(score)
        fits = {
            names: {(fit["repeat"], fit["fold"]): fit["scores"][score] for fit in done}
            for names, done in self._by_configuration().items()
        }
        rows = []
        for c in self.configurations:
            loss, sampler, reference = c.loss, c.sampler, c.reference
            ours, theirs = fits.get((loss, sampler), {}), fits.get((str(reference), sampler), {})
            pairs = [split for split in ours if split in theirs]
            if reference is not None and pairs:
                gain = np.array([ours[split] - theirs[split] for split in pairs])
                mean, _, low, high, p = self._interval(gain, self._ratio((loss, sampler)))
                rows.append(Difference(loss, sampler, reference, mean, low, high, p))
        adjusted = _holm([row.p_value for row in rows])
        return [row._replace(p_value=p) for row, p in zip(rows, adjusted, strict=True)]

    @property
    def best(self) -> Estimate:
        """The configuration of the best mean; chosen on the test rows, so a part of it is luck."""
        estimates = self.estimates()
        if not estimates:
            raise ValueError("no fit is finished, so there is no best configuration yet.")
        sign = 1 if self.greater_is_better(self.scoring) else -1
        return max(estimates, key=lambda estimate: sign * estimate.mean)

    def confusion_matrix(self, loss: str, sampler: str) -> np.ndarray:
        """Add up the confusion matrices of the fits of a configuration.

        Parameters
        ----------
        loss, sampler : str
            Names of a configuration.

        Returns
        -------
        matrix : ndarray of shape (n_classes, n_classes)
            Counts of test rows, in samples, true classes by row. With repeats, every row counts
            once for each.
        """
        fits = self._by_configuration().get((loss, sampler))
        if fits is None:
            known = ", ".join(map(str, self._by_configuration()))
            raise ValueError(f"no finished fit of {(loss, sampler)}; there are {known or 'none'}.")
        matrix: np.ndarray = np.sum([fit["confusion_matrix"] for fit in fits], axis=0)
        return matrix

    def code(self, loss: str, sampler: str) -> str:
        """Write the Python code of a configuration's estimator.

        Parameters
        ----------
        loss, sampler : str
            Names of a configuration.

        Returns
        -------
        code : str
            The estimator's ``repr``, which shows all parameters that differ from their defaults.
        """
        for configuration in self.configurations:
            if (configuration.loss, configuration.sampler) == (loss, sampler):
                with config_context(print_changed_only=True):
                    model = _with_params(self.estimator, configuration.params, None)
                    return str(model.__repr__(N_CHAR_MAX=10_000))
        raise ValueError(f"no configuration {(loss, sampler)!r} in this study.")

    def _by_configuration(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        names = [(c.loss, c.sampler) for c in self.configurations]
        fits: dict[tuple[str, str], list[dict[str, Any]]] = {name: [] for name in names}
        for fit in self.fits:
            fits[fit["loss"], fit["sampler"]].append(fit)
        return {name: done for name, done in fits.items() if done}

    def _known(self, score: str | None) -> str:
        score = self.scoring if score is None else score
        if score not in self.score_names:
            raise ValueError(
                f"unknown score {score!r}; this study has {', '.join(self.score_names)}."
            )
        return score

    def _ratio(self, names: tuple[str, str]) -> float:
        """Return test rows for each training row, as far as splits share training rows."""
        if self.has_test_set:
            return 0.0
        fits = self._by_configuration()[names]
        return float(np.mean([fit["n_test"] / fit["n_train"] for fit in fits]))

    @staticmethod
    def _interval(values: np.ndarray, ratio: float) -> tuple[float, float, float, float, float]:
        """Return mean, spread, interval and p-value of Nadeau and Bengio's corrected t-test."""
        mean, n = float(values.mean()), len(values)
        if n == 1:
            return mean, math.nan, math.nan, math.nan, math.nan
        std = float(values.std(ddof=1))
        error = std * math.sqrt(1 / n + ratio)
        if error == 0:
            return mean, std, mean, mean, float(mean == 0)
        reach = stats.t.ppf((1 + _CONFIDENCE) / 2, n - 1) * error
        p_value = 2 * stats.t.sf(abs(mean) / error, n - 1)
        return mean, std, mean - reach, mean + reach, float(p_value)

    # Words and pictures ------------------------------------------------------------------

    def __repr__(self) -> str:
        """Return the size of the study in a line."""
        n_planned = len(self.configurations) * self.n_splits
        return (
            f"LossStudy({len(self.configurations)} configurations, {len(self.fits)} of {n_planned} "
            f"fits, scoring={self.scoring!r})"
        )

    def __str__(self) -> str:
        """Return the summary."""
        return self.summary()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the table and the conclusions."""
        head, *rows = self.table()
        cells = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
        cells += [
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        ]
        words = "".join(f"<p>{html.escape(line)}</p>" for line in self.conclusions())
        return f"<table>{''.join(cells)}</table>{words}"

    def summary(self) -> str:
        """Write the scores of all configurations and what can be concluded from them.

        Returns
        -------
        text : str
            Two tables (mean ± standard deviation over fits) and a sentence for each sampler.
        """
        return "\n".join(
            [self.describe(), "", _text(self.table()), "", _text(self.scores_table()), ""]
            + self.conclusions()
        )

    def describe(self) -> str:
        """Say in a line what was compared, and how.

        Returns
        -------
        line : str
            Score, number of configurations and fits, splitting and seed.
        """
        return (
            f"{_title(self.scoring)} of {len(self.configurations)} configurations: "
            f"{self.splitting}, {self.n_splits} fits each, seed {self.seed}."
        )

    def table(self) -> list[list[str]]:
        """Lay out the score that ranks as rows of text, the first of which is the head.

        Returns
        -------
        rows : list of list of str
            Loss, sampler, mean ± standard deviation, interval, reference, difference with its
            interval, and adjusted p-value.
        """
        head = ["loss", "sampler", _title(self.scoring), "95 % interval"]
        rows = [[*head, "against", "difference [95 % interval]", "p (Holm)"]]
        against = {(row.loss, row.sampler): row for row in self.differences()}
        for row in self.estimates():
            interval = "" if row.n_fits == 1 else f"[{row.low:.3f}, {row.high:.3f}]"
            line = [row.loss, row.sampler, _mean_std(row.mean, row.std), interval]
            gain = against.get((row.loss, row.sampler))
            if gain is None:
                line += ["", "", ""]
            elif row.n_fits == 1:
                line += [gain.reference, f"{gain.mean:+.3f}", ""]
            else:
                reach = f"[{gain.low:+.3f}, {gain.high:+.3f}]"
                line += [gain.reference, f"{gain.mean:+.3f} {reach}", f"{gain.p_value:.2g}"]
            rows.append(line)
        return rows

    def scores_table(self, scores: Sequence[str] | None = None) -> list[list[str]]:
        """Lay out several scores as rows of text, the first of which is the head.

        Parameters
        ----------
        scores : sequence of str, default=None
            Some of ``score_names``; if None, all but the one that ranks.

        Returns
        -------
        rows : list of list of str
            Loss, sampler, and mean ± standard deviation over fits of each score.
        """
        if scores is None:
            scores = [name for name in self.score_names if name != self.scoring]
        rows = [["loss", "sampler", *map(_title, scores)]]
        for of_configuration in zip(*map(self.estimates, scores), strict=True):
            first = of_configuration[0]
            cells = [_mean_std(estimate.mean, estimate.std) for estimate in of_configuration]
            rows.append([first.loss, first.sampler, *cells])
        return rows

    def conclusions(self) -> list[str]:
        """Say in sentences which differences are reliable, and what the numbers do not show.

        Returns
        -------
        sentences : list of str
            One for each sampler and reference, then on the best mean, then warnings.
        """
        if not self.fits:
            return ["No fit is finished."]
        differences = self.differences()
        lines = [
            self._sentence(sampler, reference, differences)
            for sampler, reference in dict.fromkeys((d.sampler, d.reference) for d in differences)
        ]
        if not lines and len(self.configurations) > 1:
            lines = ["There is no reference at the same sampler to compare with; give baseline=."]
        best = self.best
        lines.append(
            f"Best mean: {best.loss} with {best.sampler} sampling, {best.mean:.3f}. It was chosen "
            f"among {len(self.estimates())} on the same test rows, so a part of its lead is luck."
        )
        if self.has_test_set:
            lines.append(
                "The spread is over seeds on one test set: the uncertainty that comes from the "
                "choice of the test rows is not in it."
            )
        n_planned = len(self.configurations) * self.n_splits
        if len(self.fits) < n_planned:
            lines.append(f"Not complete: {len(self.fits)} of {n_planned} fits are done.")
        steps: dict[tuple[int, int], set[int]] = {}
        for fit in self.fits:
            steps.setdefault((fit["repeat"], fit["fold"]), set()).add(fit["n_steps"])
        if any(len(numbers) > 1 for numbers in steps.values()):
            lines.append(
                "The numbers of gradient steps differ between configurations, as callbacks ended "
                "some fits early or the net makes its own batches."
            )
        return lines

    def _sentence(self, sampler: str, reference: str, differences: list[Difference]) -> str:
        mine = [d for d in differences if (d.sampler, d.reference) == (sampler, reference)]
        sign = 1 if self.greater_is_better(self.scoring) else -1
        start = f"{sampler} sampling, against {reference}: "
        if all(math.isnan(d.p_value) for d in mine):
            return f"{start}one fit each, so there is no spread to set a difference against."

        def show(some: list[Difference]) -> str:
            return ", ".join(f"{d.loss} ({d.mean:+.3f}, p {d.p_value:.2g})" for d in some)

        reliable = [d for d in mine if d.p_value < 1 - _CONFIDENCE]
        if not reliable:
            top = max(mine, key=lambda d: sign * d.mean)
            return (
                f"{start}no reliable difference in {_title(self.scoring)}; the best of "
                f"{len(mine)} is {show([top])}."
            )
        parts = [
            f"reliably {word}: {show(some)}"
            for word, some in (
                ("better", [d for d in reliable if sign * d.mean > 0]),
                ("worse", [d for d in reliable if sign * d.mean < 0]),
            )
            if some
        ]
        return f"{start}{'; '.join(parts)}."

    def to_frame(self, per: str = "configuration") -> Any:
        """Return the scores as a table of pandas.

        Parameters
        ----------
        per : {"configuration", "fit"}, default="configuration"
            What a row is.

        Returns
        -------
        frame : pandas.DataFrame
            Per configuration: ``mean_``, ``std_``, ``low_`` and ``high_`` of each score,
            and ``difference_``, ``difference_low_``, ``difference_high_`` and ``p_value_`` against
            the reference, with loss and sampler as the index. Per fit: the records of ``fits``.

        Raises
        ------
        ImportError
            If pandas is missing: ``pip install "skimbal[study]"``.
        ValueError
            If ``per`` is unknown, or no fit is finished.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                'to_frame needs pandas, which is missing: pip install "skimbal[study]"'
            ) from error
        if per not in ("configuration", "fit"):
            raise ValueError(f"per must be 'configuration' or 'fit', got {per!r}.")
        if per == "fit":
            left_out = ("scores", "confusion_matrix")
            return pandas.DataFrame(
                {**{k: v for k, v in fit.items() if k not in left_out}, **fit["scores"]}
                for fit in self.fits
            )
        rows = self._rows()
        frame = pandas.DataFrame(list(rows.values()))
        frame.index = pandas.MultiIndex.from_tuples(list(rows), names=["loss", "sampler"])
        return frame

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table that ``to_frame()`` returns as a csv file; needs no pandas.

        Parameters
        ----------
        path : str or path-like
            The file, which is replaced if it exists.

        Raises
        ------
        OSError
            If the file cannot be written.
        ValueError
            If no fit is finished.
        """
        rows = self._rows()
        # References have no differences: their cells stay empty.
        columns = dict.fromkeys(name for row in rows.values() for name in row)
        with open(path, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["loss", "sampler", *columns])
            writer.writeheader()
            for (loss, sampler), row in rows.items():
                writer.writerow({"loss": loss, "sampler": sampler, **row})

    def _rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the numbers of each configuration by the names of their columns."""
        if not self.fits:
            raise ValueError("no fit is finished, so there is no table yet.")
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for score in self.score_names:
            for e in self.estimates(score):
                row = rows.setdefault((e.loss, e.sampler), {"n_fits": e.n_fits})
                for name in ("mean", "std", "low", "high"):
                    row[f"{name}_{score}"] = getattr(e, name)
            for d in self.differences(score):
                row = rows[d.loss, d.sampler]
                row["reference"] = d.reference
                for name in ("", "_low", "_high"):
                    row[f"difference{name}_{score}"] = getattr(d, name[1:] or "mean")
                row[f"p_value_{score}"] = d.p_value
        return rows

    def plot(self, *, scoring: str | None = None, ax: Any = None) -> Any:
        """Draw the configurations with their intervals, grouped by sampler.

        Parameters
        ----------
        scoring : str, default=None
            One of ``score_names``; the one that ranks if None.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : skimbal.displays.LossStudyDisplay
            The picture.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "skimbal[plot]"``.
        """
        from skimbal.displays import LossStudyDisplay

        return LossStudyDisplay.from_study(self, scoring=scoring, ax=ax)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a report that needs no network: one file with tables, pictures and code.

        Parameters
        ----------
        path : str or path-like
            The file, which is replaced if it exists.

        Raises
        ------
        ImportError
            If jinja2 or matplotlib is missing: ``pip install "skimbal[study]"``.
        OSError
            If the file cannot be written.
        ValueError
            If no fit is finished.
        """
        from skimbal.report import write_report

        write_report(self, path)


def _holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number; those that are NaN are no comparisons."""
    p = np.array(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    p[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return list(map(float, p))


def _title(score: str) -> str:
    return _TITLES.get(score, score)


def _mean_std(mean: float, std: float) -> str:
    return f"{mean:.3f}" + ("" if math.isnan(std) else f" ± {std:.3f}")


def _text(rows: list[list[str]]) -> str:
    return str(tabulate(rows, tablefmt="plain", disable_numparse=True))


def compare_losses(
    X: Any,
    y: Any,
    *,
    losses: Sequence[Any] | Mapping[str, Any] | None = None,
    samplers: Sequence[Any] | Mapping[str, Any] | None = None,
    estimator: Any = None,
    cv: Any = None,
    groups: Any = None,
    scoring: Any = "balanced_accuracy",
    baseline: str | None = None,
    n_repeats: int = 1,
    n_jobs: int | None = None,
    random_state: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    groups_test: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> "LossStudy":
    r"""Compare losses and samplers by repeated cross-validation, or on a fixed test set.

    Folds, initial weights and number of gradient steps are the same for every configuration: an
    epoch has as many batches whatever the sampler, so that balanced sampling does not buy longer
    training.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Images, as the classifiers take them; image files are read in the fits only.
    y : array-like of shape (n_samples,)
        Class labels.
    losses : sequence or mapping, default=None
        What ``loss=`` of the classifiers takes: names, expressions, :class:`~skimbal.LossMix`,
        modules. A mapping gives them names of your own; its values may also be dicts of classifier
        parameters, such as ``{"post hoc": {"loss": "ce", "logit_adjustment": 1.0}}``. If None, the
        losses of the paper.
    samplers : sequence or mapping, default=None
        What ``sampler=`` takes, and ``"uniform"`` for None. If None, ``"uniform"`` and
        ``"balanced"``. Losses and samplers are combined, each with each; if ``losses`` is None too,
        the study has the paper's 15 configurations: ``ce``, ``focal``, ``f1``, ``mcc``, ``ce+f1``
        and ``ce+mcc`` under both samplers, ``wce``, ``wce+f1`` and ``wce+mcc`` under uniform.
    estimator : estimator, default=None
        A classifier of this package, or a pipeline that ends in one. If None, a
        :class:`~skimbal.CNN2DClassifier` or :class:`~skimbal.CNN3DClassifier` that suits the shape
        of ``X``: four axes are volumes unless the second has length 1 or 3.
    cv : int, splitter or iterable of (train, test), default=None
        Number of stratified folds (5 if None), of :class:`~sklearn.model_selection.StratifiedKFold`
        or, with ``groups``, :class:`~sklearn.model_selection.StratifiedGroupKFold`; or splits of
        your own.
    groups : array-like of shape (n_samples,), default=None
        Such as patients: no group is on both sides of a split, that of the estimator's
        ``train_split`` included, to whose fit they are given.
    scoring : str or callable, default="balanced_accuracy"
        The score that ranks: one of those below, a scorer of scikit-learn by name, or a callable
        ``(estimator, X, y)`` of which more is better, called ``"score"`` in the table. All studies
        have ``"balanced_accuracy"``, ``"f1_macro"``, ``"matthews_corrcoef"``, ``"roc_auc_ovr"``
        (macro, one against the rest), ``"average_precision_rarest"`` (of the rarest class),
        ``"log_loss"``, ``"brier_score"`` and ``"f1[label]"`` for each class.
    baseline : str, default=None
        Name of the loss that all others are compared with at the same sampler. If None, it is
        ``"ce"``, and ``"wce"`` for what adds a term to ``"wce"``.
    n_repeats : int, default=1
        How often the folds are drawn anew; with ``X_test``, the number of seeds.
    n_jobs : int, default=None
        Number of fits at a time, as in joblib.
    random_state : int, RandomState instance or None, default=None
        Seed of folds, weights and batches. The same seed gives the same table on one machine.
    X_test, y_test : array-like, default=None
        A fixed test set instead of cross-validation. The spread is then one over seeds alone.
    groups_test : array-like of shape (n_test_samples,), default=None
        Groups of the fixed test set, of which none may be among ``groups``; not compared if None.
    cache_dir : str or path-like, default=None
        Folder to which every finished fit is appended. A study of the same data, estimator and
        versions goes on there, also with further losses, samplers or repeats; any other is refused.
        Image files are told apart by :meth:`~skimbal.images.ImageFiles.fingerprint`.
    verbose : int, default=1
        1 shows a progress bar over the fits, 0 none.

    Returns
    -------
    study : LossStudy
        The scores of all fits, with tables, pictures and a report.

    Raises
    ------
    ValueError
        Before any fit, if a loss, sampler, score or baseline is unknown, or the score cannot judge
        these classes; if a class has fewer members (or groups) than folds, or a fold lacks a class;
        if a group is on both sides of a split; if groups are to go past a resampler to
        ``train_split``; if ``cache_dir`` belongs to another study or holds other files.
    OSError
        If ``cache_dir`` cannot be made or written to.

    Notes
    -----
    With scores :math:`d_j` of :math:`J` fits less those of the reference on the same rows, the test
    statistic is that of Nadeau and Bengio (2003),

    .. math:: t = \bar d \Big/ \sqrt{\left(\tfrac{1}{J} + \tfrac{n_2}{n_1}\right) s_d^2},

    with :math:`J - 1` degrees of freedom, :math:`n_1` training and :math:`n_2` test rows: training
    sets of a cross-validation overlap, and without the second term the test finds differences that
    are not there. On a fixed test set, that term is 0. The p-values are adjusted for the number of
    comparisons with one score by the method of Holm (1979).

    Whatever ends the fits early, an error or Ctrl-C, the exception carries those that are finished
    as its attribute ``study``.

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
    ...     estimator=CNN2DClassifier(max_epochs=2), cv=3, random_state=0, verbose=0,
    ... )
    >>> [(e.loss, e.sampler, e.n_fits) for e in study.estimates()]
    [('ce', 'balanced', 3), ('ce+mcc', 'balanced', 3)]
    """
    X, y, groups, X_test, y_test, groups_test = _check_data(
        X, y, groups, X_test, y_test, groups_test
    )
    classes = np.unique(y)
    estimator = _check_estimator(estimator, X)
    counts = np.bincount(np.searchsorted(classes, y))
    configurations = _configurations(losses, samplers, baseline, y, counts, estimator)
    _check_groups_arrive(configurations, estimator, groups)
    scorer = _check_scoring(scoring, y, classes)
    for name, value in (("n_repeats", n_repeats), ("verbose", verbose)):
        least = 1 if name == "n_repeats" else 0
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
    cache = None if cache_dir is None else FitCache(cache_dir)
    seed = None if cache is None else cache.seed
    if random_state is not None or seed is None:
        seed = _draw_seed(random_state)
    if X_test is None:
        splits = _cv_splits(cv, y, groups, int(n_repeats), seed)
        _check_splits(splits, y, groups)
    else:
        if cv is not None:
            raise ValueError("cv splits X, but X_test is a fixed test set; give one of the two.")
        splits = [_Split(r, 0, None, None, _seed(seed, r, 0)) for r in range(n_repeats)]
    study = LossStudy(
        configurations,
        classes=classes,
        scoring=scoring if isinstance(scoring, str) else "score",
        estimator=estimator,
        data=_data_card(X, y, groups, y_test, groups_test),
        seed=seed,
        splitting=_describe_splitting(cv, groups, splits, y_test),
        n_splits=len(splits),
        has_test_set=y_test is not None,
    )
    done: dict[str, dict[str, Any]] = {}
    if cache is not None:
        done = cache.open(_fingerprint(X, y, groups, X_test, y_test, estimator, splits, seed))
    data = X, y, groups, X_test, y_test
    _run(study, splits, data, scorer, cache, done, n_jobs, verbose)
    return study


# The plan ------------------------------------------------------------------------------------


class _Split(NamedTuple):
    """Rows of a fit, all and the fixed test set if None, and its seed."""

    repeat: int
    fold: int
    train: np.ndarray | None
    test: np.ndarray | None
    seed: int


def _check_data(
    X: Any, y: Any, groups: Any, X_test: Any, y_test: Any, groups_test: Any
) -> tuple[Any, ...]:
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test go together, but only one of them was given.")
    if groups_test is not None and (X_test is None or groups is None):
        raise ValueError(
            "groups_test are the groups of the rows of X_test, to be compared with groups; give "
            "all three, or leave groups_test out."
        )

    def images(data: Any) -> Any:
        data = _from_paths(data)
        return data if hasattr(data, "shape") or hasattr(data, "iloc") else np.asarray(data)

    def labels(data: Any, name: str) -> np.ndarray:
        column = np.asarray(column_or_1d(data))
        missing = column != column if column.dtype.kind in "fO" else np.zeros(1, dtype=bool)
        if np.any(missing) or any(label is None for label in column.tolist()):
            raise ValueError(f"{name} holds missing labels; drop these rows first.")
        return column

    X, y = images(X), labels(y, "y")
    check_consistent_length(X, y)
    if len(np.unique(y)) < 2:
        raise ValueError(f"y must hold at least 2 classes, got {np.unique(y).tolist()}.")
    if groups is not None:
        groups = labels(groups, "groups")
        check_consistent_length(X, groups)
    if X_test is not None:
        X_test, y_test = images(X_test), labels(y_test, "y_test")
        check_consistent_length(X_test, y_test)
        if not np.array_equal(np.unique(y_test), np.unique(y)):
            raise ValueError(
                "y_test must hold the same classes as y, each at least once, so that every score "
                f"is defined; got {np.unique(y_test).tolist()} and {np.unique(y).tolist()}."
            )
    if groups_test is not None:
        groups_test = labels(groups_test, "groups_test")
        check_consistent_length(X_test, groups_test)
        shared = np.intersect1d(groups, groups_test)
        if len(shared):
            raise ValueError(
                f"{len(shared)} group(s) are in the training and the test rows, such as "
                f"{shared.tolist()[0]!r}: what is learnt of a patient would be tested on that "
                "patient. Divide the rows by group."
            )
    return X, y, groups, X_test, y_test, groups_test


def _check_estimator(estimator: Any, X: Any) -> Any:
    if estimator is None:
        n_axes = getattr(X, "n_spatial", None)  # image files know
        is_2d = X.ndim <= 3 or (X.ndim == 4 and X.shape[1] in (1, 3))
        if n_axes is not None:
            is_2d = n_axes == 2
        return CNN2DClassifier() if is_2d else CNN3DClassifier()
    if not isinstance(_final(estimator), CNN2DClassifier | CNN3DClassifier):
        raise ValueError(
            "estimator must be a CNN2DClassifier, a CNN3DClassifier, or a Pipeline that ends in "
            f"one, whose loss and sampler the study sets; got {estimator!r}."
        )
    return clone(estimator)


def _final(estimator: Any) -> Any:
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def _with_params(estimator: Any, params: Mapping[str, Any], seed: int | None) -> Any:
    """Return a copy with parameters of its classifier set, and all its seeds if one is given."""
    result = clone(estimator)
    # Clones: a sampler or callback is not to be shared by several fits.
    _final(result).set_params(**{name: _clone(value) for name, value in params.items()})
    if seed is not None:
        names = result.get_params(deep=True)
        seeds = [name for name in names if f"__{name}".endswith("__random_state")]
        result.set_params(**dict.fromkeys(seeds, seed))
    return result


def _clone(value: Any) -> Any:
    return clone(value) if hasattr(value, "get_params") else copy.deepcopy(value)


def _named(given: Sequence[Any] | Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the losses or samplers by the names that tables show."""
    if isinstance(given, Mapping):
        named = {str(name): value for name, value in given.items()}
    elif isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"{what} must be a list or a mapping from names, got {given!r}.")
    else:
        names = [_name(value) for value in given]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(
                f"{what} holds {twice!r} twice; name them apart with a mapping, such as "
                f"{{'first': ..., 'second': ...}}."
            )
        named = dict(zip(names, given, strict=True))
    if not named:
        raise ValueError(f"{what} must hold at least one entry, got {given!r}.")
    return named


def _name(value: Any) -> str:
    if value is None:
        return "uniform"
    if isinstance(value, str):
        return value
    if isinstance(value, type):
        return value.__name__
    return type(value).__name__ if isinstance(value, nn.Module) else repr(value)


def _configurations(
    losses: Any,
    samplers: Any,
    baseline: str | None,
    y: np.ndarray,
    counts: np.ndarray,
    estimator: Any,
) -> list[Configuration]:
    """Combine losses and samplers; refuse at once what no fit could use."""
    by_loss = _named(_LOSSES if losses is None else losses, "losses")
    by_sampler = _named(("uniform", "balanced") if samplers is None else samplers, "samplers")
    extra = _named(_WEIGHTED_LOSSES, "losses") if losses is None else {}
    if losses is None and "uniform" not in by_sampler:
        extra = {}  # weights and sampling would correct twice
    params = {
        name: dict(value) if isinstance(value, Mapping) else {"loss": value}
        for name, value in {**by_loss, **extra}.items()
    }
    terms: dict[str, set[str]] = {}
    for name, of_loss in params.items():
        loss = get_loss(of_loss.get("loss", _final(estimator).loss), counts)
        terms[name] = set(loss.factors) if isinstance(loss, MixedLoss) else set()
        _with_params(estimator, of_loss, None)  # unknown parameters
        if "sampler" in of_loss:
            raise ValueError(
                f"losses[{name!r}] sets a sampler, which the study does: give it as samplers."
            )
    for sampler in by_sampler.values():
        BatchSampler(y, 2, None if _is_uniform(sampler) else sampler)
    if baseline is not None and baseline not in params:
        raise ValueError(f"baseline must be one of the losses {list(params)}, got {baseline!r}.")

    def reference(name: str) -> str | None:
        if baseline is not None:
            chosen = baseline
        else:
            chosen = "wce" if "wce" in terms[name] and len(terms[name]) > 1 else "ce"
        return chosen if chosen in params and chosen != name else None

    return [
        Configuration(loss, sampler, reference(loss), {**params[loss], "sampler": value})
        for sampler, given in by_sampler.items()
        for value in [None if _is_uniform(given) else given]
        for loss in (*by_loss, *(extra if sampler == "uniform" else ()))
    ]


def _check_groups_arrive(
    configurations: list[Configuration], estimator: Any, groups: np.ndarray | None
) -> None:
    """Refuse resampled rows, whose groups nobody knows, where a validation split asks for them."""
    steps = estimator.steps[:-1] if isinstance(estimator, Pipeline) else []
    resamplers = [name for name, step in steps if hasattr(step, "fit_resample")]
    for configuration in configurations if resamplers else ():
        if _groups_for(_with_params(estimator, configuration.params, None), groups):
            raise ValueError(
                f"the step {resamplers[0]!r} of the pipeline makes other rows, so train_split "
                "cannot keep groups on one side. Use a sampler of the study, which acts after the "
                "split, or train_split=None."
            )


def _groups_for(model: Any, groups: np.ndarray | None) -> dict[str, Any]:
    """Return the groups as the argument of fit that brings them to a validation split."""
    if groups is None or _final(model).train_split is None:
        return {}
    return {f"{model.steps[-1][0]}__groups" if isinstance(model, Pipeline) else "groups": groups}


def _is_uniform(sampler: Any) -> bool:
    return sampler is None or (isinstance(sampler, str) and sampler == "uniform")


def _check_scoring(scoring: Any, y: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
    """Return the scorer by its name, or nothing where every study has the score."""
    if callable(scoring):
        return {"score": scoring}
    own = [*_SCORES, *_f1_names(classes)]
    if isinstance(scoring, str) and scoring in own:
        return {}
    if not isinstance(scoring, str) or scoring not in get_scorer_names():
        raise ValueError(
            f"scoring must be one of {', '.join(own)}, the name of a scikit-learn scorer (such as "
            f"'neg_brier_score') or a callable (estimator, X, y); got {scoring!r}."
        )
    scorer = get_scorer(scoring)
    rows = np.zeros((len(y), 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scorer(DummyClassifier().fit(rows, y), rows, y)
    except ValueError as error:
        # Some are of two classes, of labels 0 and 1, or of numbers: not to be found after a fit.
        raise ValueError(
            f"scoring={scoring!r} cannot judge the classes {classes.tolist()} ({error}); use one "
            f"of {', '.join(own)}, or a scorer that can."
        ) from error
    return {scoring: scorer}


def _f1_names(classes: np.ndarray) -> list[str]:
    return [f"f1[{label}]" for label in classes.tolist()]


def _draw_seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        check_random_state(random_state)  # its range
        return int(random_state)
    if random_state is None:
        # Not from numpy's global state, which stays as it is.
        return int(np.random.default_rng().integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)


def _cv_splits(
    cv: Any, y: np.ndarray, groups: np.ndarray | None, n_repeats: int, seed: int
) -> list[_Split]:
    if cv is None or isinstance(cv, int | np.integer):
        n_splits = 5 if cv is None else int(cv)
        _check_n_splits(n_splits, y, groups)
        folds = StratifiedKFold if groups is None else StratifiedGroupKFold
        cv = folds(n_splits, shuffle=True)
    cv = check_cv(cv, y, classifier=True)
    is_random = hasattr(cv, "random_state") and getattr(cv, "shuffle", True)
    if n_repeats > 1 and not is_random:
        raise ValueError(
            f"n_repeats={n_repeats} draws the folds anew, which cv={cv!r} cannot do; use "
            "n_repeats=1, a number of folds, or a splitter with shuffle=True."
        )
    splits = []
    for repeat in range(n_repeats):
        if is_random and (repeat or cv.random_state is None):
            cv = copy.copy(cv)
            cv.random_state = _seed(seed, repeat)
        with warnings.catch_warnings():
            # That groups are ignored is an error where it matters, see _check_splits.
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            # The images play no part: splitters look at labels and groups.
            pairs = list(cv.split(np.zeros(len(y)), y, groups))
        splits += [
            _Split(repeat, fold, train, test, _seed(seed, repeat, fold))
            for fold, (train, test) in enumerate(pairs)
        ]
    return splits


def _check_n_splits(n_splits: int, y: np.ndarray, groups: np.ndarray | None) -> None:
    if isinstance(n_splits, bool) or n_splits < 2:
        raise ValueError(f"cv must be at least 2 folds, got {n_splits!r}.")
    members = {
        label: int(np.sum(y == label)) if groups is None else len(np.unique(groups[y == label]))
        for label in np.unique(y)
    }
    label = min(members, key=members.__getitem__)
    least = members[label]
    if least < n_splits:
        what = "members" if groups is None else "groups"
        raise ValueError(
            f"class {label} has {least} {what}, fewer than the {n_splits} folds, so some "
            f"fold would lack it; use cv={least} or less, or merge classes."
            if least >= 2
            else f"class {label} has {least} of at least 2 {what} that a cross-validation "
            "needs; drop or merge the class, or collect more of it."
        )


def _check_splits(splits: list[_Split], y: np.ndarray, groups: np.ndarray | None) -> None:
    classes = np.unique(y)
    for split in splits:
        where = f"fold {split.fold} of repeat {split.repeat}"
        for side, rows in (("training", split.train), ("test", split.test)):
            missing = np.setdiff1d(classes, y[rows])
            if len(missing):
                raise ValueError(
                    f"the {side} rows of {where} lack the class(es) {missing.tolist()}: too few "
                    "members or groups for these folds. Use fewer folds, other groups or another "
                    "random_state."
                )
        if groups is not None:
            shared = np.intersect1d(groups[split.train], groups[split.test])
            if len(shared):
                raise ValueError(
                    f"{where} has {len(shared)} group(s) on both sides, such as {shared[0]!r}: "
                    "what is learnt of a patient would be tested on that patient. Use a splitter "
                    "that honours groups, such as StratifiedGroupKFold, or leave cv a number."
                )


def _describe_splitting(
    cv: Any, groups: np.ndarray | None, splits: list[_Split], y_test: np.ndarray | None
) -> str:
    n_repeats = 1 + max(split.repeat for split in splits)
    if y_test is not None:
        return f"fixed test set, {n_repeats} seed" + "s" * (n_repeats > 1)
    n_folds = 1 + max(split.fold for split in splits)
    if cv is None or isinstance(cv, int | np.integer):
        kind = "stratified" if groups is None else "stratified group"
        name = f"{kind} {n_folds}-fold cross-validation"
    else:
        name = f"{n_folds} splits of {type(cv).__name__}"
    return name + (f", {n_repeats} repeats" if n_repeats > 1 else "")


def _data_card(
    X: Any, y: np.ndarray, groups: Any, y_test: np.ndarray | None, groups_test: Any
) -> DataCard:
    labels = {"all" if y_test is None else "train": y}
    if y_test is not None:
        labels["test"] = y_test
    of_splits = dict(zip(labels, (groups, groups_test), strict=False))
    of_splits = {split: array for split, array in of_splits.items() if array is not None}
    return DataCard.from_labels(
        labels,
        image_shape=tuple(X.shape[1:]),
        dtype=str(getattr(X, "dtype", "mixed")),
        groups=of_splits or None,
    )


# The fits ------------------------------------------------------------------------------------


def _run(
    study: "LossStudy",
    splits: list[_Split],
    data: tuple[Any, ...],
    scorer: Any,
    cache: "FitCache | None",
    done: dict[str, dict[str, Any]],
    n_jobs: int | None,
    verbose: int,
) -> None:
    """Fit what is not done yet; add each fit to the study, and to the cache, as it is finished."""
    todo = []
    for split in splits:
        for configuration in study.configurations:
            key = _key(configuration, split, study.scoring)
            if key in done:
                study.fits.append(done[key])
            else:
                todo.append((key, configuration, split))
    bar = tqdm(
        total=len(splits) * len(study.configurations),
        initial=len(study.fits),
        unit="fit",
        disable=not verbose,
    )
    results = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(_fit)(key, study.estimator, configuration, split, data, study.classes, scorer)
        for key, configuration, split in todo
    )
    shown: set[tuple[str, str]] = set()
    try:
        with bar:
            for key, fit, caught in results:
                if cache is not None:
                    cache.append(key, fit)
                study.fits.append(fit)
                bar.set_postfix_str(f"{fit['loss']}, {fit['sampler']}")
                bar.update()
                for category, text in caught:
                    if (category.__name__, text) not in shown:
                        shown.add((category.__name__, text))
                        warnings.warn(text, category, stacklevel=3)
    except BaseException as error:
        error.study = study  # type: ignore[attr-defined]
        if cache is not None:
            error.add_note(
                f"Finished fits, {len(study.fits)} of them, are in {cache.folder}; the same call "
                "goes on there."
            )
        raise
    finally:
        order = {(c.loss, c.sampler): i for i, c in enumerate(study.configurations)}
        study.fits.sort(key=lambda f: (order[f["loss"], f["sampler"]], f["repeat"], f["fold"]))


def _key(configuration: Configuration, split: _Split, scoring: str) -> str:
    parts = (
        configuration.loss,
        configuration.sampler,
        describe(configuration.params),
        split.repeat,
        split.fold,
        # Other scores are there anyway.
        scoring if scoring not in _SCORES and not scoring.startswith("f1[") else None,
    )
    return json.dumps(parts)


def _fit(
    key: str,
    estimator: Any,
    configuration: Configuration,
    split: _Split,
    data: tuple[Any, ...],
    classes: np.ndarray,
    scorer: Any,
) -> tuple[str, dict[str, Any], list[tuple[type[Warning], str]]]:
    """Fit and score one configuration on one split; return the record and what it warned of."""
    X, y, groups, X_test, y_test = data
    rarest = int(np.argmin(np.bincount(np.searchsorted(classes, y))))
    if split.train is not None:
        X_test, y_test = _safe_indexing(X, split.test), y[split.test]
        X, y = _safe_indexing(X, split.train), y[split.train]
        groups = None if groups is None else groups[split.train]
    model = _with_params(estimator, configuration.params, split.seed)
    classifier = _final(model)
    if "iterator_train" not in (classifier.net or {}):
        classifier.set_params(net__iterator_train__uniform_length=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        # A pipeline is told which step the groups are for, which metadata routing has no words for.
        with config_context(enable_metadata_routing=False):
            model.fit(X, y, **_groups_for(model, groups))
        fitted = time.perf_counter()
        scores, confusion = _scores(model, X_test, y_test, classes, rarest, scorer)
    fit = {
        "loss": configuration.loss,
        "sampler": configuration.sampler,
        "repeat": split.repeat,
        "fold": split.fold,
        "seed": split.seed,
        "n_train": len(y),
        "n_test": len(y_test),
        "n_epochs": _final(model).n_epochs_,
        "n_steps": int(sum(_final(model).history_[:, "train_batch_count"])),
        "fit_time": round(fitted - start, 3),
        "score_time": round(time.perf_counter() - fitted, 3),
        "scores": scores,
        "confusion_matrix": confusion,
    }
    return key, fit, [(warning.category, str(warning.message)) for warning in caught]


def _scores(
    model: Any, X: Any, y: np.ndarray, classes: np.ndarray, rarest: int, scorer: Any
) -> tuple[dict[str, float], list[list[int]]]:
    probability = model.predict_proba(X).astype(np.float64)
    if not np.isfinite(probability).all():
        raise ValueError(
            "the fitted network predicts probabilities that are not finite, so it has diverged: "
            "lower lr, or see dtype."
        )
    probability /= probability.sum(1, keepdims=True)
    predicted = classes[probability.argmax(1)]
    one_hot = y[:, None] == classes
    n_classes = len(classes)
    auc = [roc_auc_score(one_hot[:, k], probability[:, k]) for k in range(n_classes)]
    f1 = f1_score(y, predicted, labels=classes, average=None, zero_division=0)
    # Halved for two classes, so that it is the score of the probability of one of them.
    brier = ((probability - one_hot) ** 2).sum(1).mean() / (2 if n_classes == 2 else 1)
    scores = {
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "f1_macro": f1.mean(),
        "matthews_corrcoef": matthews_corrcoef(y, predicted),
        "roc_auc_ovr": np.mean(auc),
        "average_precision_rarest": average_precision_score(
            one_hot[:, rarest], probability[:, rarest]
        ),
        "log_loss": log_loss(y, probability, labels=classes),
        "brier_score": brier,
        **dict(zip(_f1_names(classes), f1, strict=True)),
    }
    for name, of_user in scorer.items():
        scores[name] = of_user(model, X, y)
    return (
        {name: float(score) for name, score in scores.items()},
        confusion_matrix(y, predicted, labels=classes).tolist(),
    )


def _fingerprint(
    X: Any,
    y: np.ndarray,
    groups: np.ndarray | None,
    X_test: Any,
    y_test: np.ndarray | None,
    estimator: Any,
    splits: list[_Split],
    seed: int,
) -> dict[str, Any]:
    """Return what has to be the same for fits to belong together; readable, as errors show it."""
    # Those of later repeats follow from the seed, and their number may grow.
    folds = [rows for split in splits if split.repeat == 0 for rows in (split.train, split.test)]
    return {
        "seed": seed,
        "data": {"X": describe_images(X), "y": digest(y), "groups": digest(groups)},
        "test set": {"X": describe_images(X_test), "y": digest(y_test)},
        "folds": digest(*folds),
        # What the configurations and the study set themselves is no part of it.
        "estimator": describe(_with_params(estimator, {"loss": "ce", "sampler": None}, 0)),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    names = ("skimbal", "torch", "skorch", "scikit-learn", "imbalanced-learn", "numpy")
    return {name: version(name) for name in names}
