"""The finished fits of a study."""

import csv
import html
import math
import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn import config_context

from skimbal.datasets import DataCard
from skimbal.study.plan import Configuration, with_params
from skimbal.study.scores import SCORES, f1_names, score_title
from skimbal.study.statistics import CONFIDENCE, holm
from skimbal.study.words import mean_std, text_table

__all__ = ["Difference", "Estimate", "LossStudy", "package_versions"]


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
        self.versions = package_versions()

    # Numbers -----------------------------------------------------------------------------

    @property
    def class_names(self) -> list[str]:
        """Class labels as text."""
        return [str(label) for label in self.classes.tolist()]

    @property
    def score_names(self) -> list[str]:
        """Names of the scores, the one that ranks first."""
        return list(dict.fromkeys([self.scoring, *SCORES, *f1_names(self.classes)]))

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
        return SCORES.get(self._known(score), True)

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
        adjusted = holm([row.p_value for row in rows])
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
                    model = with_params(self.estimator, configuration.params, None)
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
        reach = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error
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
            [self.describe(), "", text_table(self.table()), "", text_table(self.scores_table()), ""]
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
            f"{score_title(self.scoring)} of {len(self.configurations)} configurations: "
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
        head = ["loss", "sampler", score_title(self.scoring), "95 % interval"]
        rows = [[*head, "against", "difference [95 % interval]", "p (Holm)"]]
        against = {(row.loss, row.sampler): row for row in self.differences()}
        for row in self.estimates():
            interval = "" if row.n_fits == 1 else f"[{row.low:.3f}, {row.high:.3f}]"
            line = [row.loss, row.sampler, mean_std(row.mean, row.std), interval]
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
        rows = [["loss", "sampler", *map(score_title, scores)]]
        for of_configuration in zip(*map(self.estimates, scores), strict=True):
            first = of_configuration[0]
            cells = [mean_std(estimate.mean, estimate.std) for estimate in of_configuration]
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

        reliable = [d for d in mine if d.p_value < 1 - CONFIDENCE]
        if not reliable:
            top = max(mine, key=lambda d: sign * d.mean)
            return (
                f"{start}no reliable difference in {score_title(self.scoring)}; the best of "
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
        from skimbal.study.report import write_report

        write_report(self, path)


def package_versions() -> dict[str, str]:
    names = ("skimbal", "torch", "skorch", "scikit-learn", "imbalanced-learn", "numpy")
    return {name: version(name) for name in names}
