"""The finished fits of a study, and the numbers that follow from them."""

import csv
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from skimbal.datasets import DataCard
from skimbal.displays import LossStudyDisplay
from skimbal.exceptions import ParameterError, import_optional
from skimbal.study.code import write_code
from skimbal.study.plan import Configuration, with_params
from skimbal.study.report import write_report
from skimbal.study.scores import SCORES, Fit, class_scores
from skimbal.study.source import Source
from skimbal.study.statistics import Difference, Estimate, holm, interval
from skimbal.study.words import (
    draw_conclusions,
    make_ranking_table,
    make_scores_table,
    write_description,
    write_html,
    write_summary,
)
from skimbal.typing import Classifier, PathLike
from skimbal.wording import plural

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

__all__ = ["LossStudy", "package_versions"]


class LossStudy:
    """The scores of losses and samplers, as :func:`~skimbal.study.compare_losses` returns them.

    ``print(study)`` shows the tables and says which differences are reliable.

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
        Seed of folds, weights and batches.
    splitting : str
        How the test rows were chosen, in words.
    n_splits : int
        Number of fits of each configuration when all are done.
    has_test_set : bool
        Whether the test rows were the same in every fit.
    leaks : sequence of str, default=()
        Sentences about pictures in training and test rows, in two classes or in two groups.
    source : skimbal.study.source.Source, default=None
        The data set of the rows, as far as it is known.

    Attributes
    ----------
    fits : list of Fit
        The finished fits: configuration, split, seed, numbers of rows, epochs and gradient steps,
        times in seconds, scores, and the confusion matrix of the test rows.
    versions : dict
        Versions of the packages that the scores come from.

    See Also
    --------
    compare_losses : Make a study.

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
        estimator: Classifier,
        data: DataCard,
        seed: int,
        splitting: str,
        n_splits: int,
        has_test_set: bool,
        leaks: Sequence[str] = (),
        source: Source | None = None,
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
        self.leaks = list(leaks)
        self.source = source
        self.fits: list[Fit] = []
        self.versions = package_versions()

    # Numbers -----------------------------------------------------------------------------

    @property
    def n_planned(self) -> int:
        """Number of fits when all are done."""
        return len(self.configurations) * self.n_splits

    @property
    def class_names(self) -> list[str]:
        """Class labels as text."""
        return list(self.class_scores())

    @property
    def score_names(self) -> list[str]:
        """Names of the scores, the score that ranks first."""
        return list(dict.fromkeys([self.scoring, *SCORES, *self.class_scores().values()]))

    def class_scores(self) -> dict[str, str]:
        """Map the classes to their scores.

        Returns
        -------
        names : dict of str to str
            The name of each class, and the name of its F1 score: one of ``score_names``.
        """
        return class_scores(self.classes)

    def title(self, score: str | None = None) -> str:
        """Name a score as tables do.

        Parameters
        ----------
        score : str, default=None
            One of ``score_names``. If None, the score that ranks.

        Returns
        -------
        title : str
            Such as ``"balanced accuracy"``.
        """
        score = self._known(score)
        return SCORES[score].title if score in SCORES else score

    def greater_is_better(self, score: str) -> bool:
        """Tell whether a high score is a good score. Log-loss and Brier score are not.

        Parameters
        ----------
        score : str
            One of ``score_names``.

        Returns
        -------
        bool
            False for losses.
        """
        score = self._known(score)
        return score not in SCORES or SCORES[score].greater_is_better

    def scores(self, score: str | None = None) -> dict[tuple[str, str], np.ndarray]:
        """Collect a score of the finished fits.

        Parameters
        ----------
        score : str, default=None
            One of ``score_names``. If None, the score that ranks.

        Returns
        -------
        scores : dict
            (loss, sampler) mapped to an array of shape (n_fits,), in the order of the splits.
        """
        score = self._known(score)
        return {
            names: np.array([fit.scores[score] for fit in fits])
            for names, fits in self._by_configuration().items()
        }

    def estimates(self, score: str | None = None) -> list[Estimate]:
        """Estimate a score of each configuration.

        Parameters
        ----------
        score : str, default=None
            One of ``score_names``. If None, the score that ranks.

        Returns
        -------
        estimates : list of Estimate
            In the order of ``configurations``, without configurations that have no finished fit.
            The interval of the mean has the correction that :func:`compare_losses` names. It is
            NaN for one fit.
        """
        return [
            Estimate(*names, len(values), *interval(values, self._ratio(names))[:4])
            for names, values in self.scores(score).items()
        ]

    def differences(self, score: str | None = None) -> list[Difference]:
        """Compare each configuration with its reference at the same sampler, split by split.

        Parameters
        ----------
        score : str, default=None
            One of ``score_names``. If None, the score that ranks.

        Returns
        -------
        differences : list of Difference
            The configuration minus its reference, for configurations that have a reference.
        """
        score = self._known(score)
        fits = {
            names: {(fit.repeat, fit.fold): fit.scores[score] for fit in done}
            for names, done in self._by_configuration().items()
        }
        rows = []
        for c in self.configurations:
            loss, sampler, reference = c.loss, c.sampler, c.reference
            ours, theirs = fits.get((loss, sampler), {}), fits.get((str(reference), sampler), {})
            pairs = [split for split in ours if split in theirs]
            if reference is not None and pairs:
                gain = np.array([ours[split] - theirs[split] for split in pairs])
                mean, _, low, high, p = interval(gain, self._ratio((loss, sampler)))
                rows.append(Difference(loss, sampler, reference, mean, low, high, p))
        adjusted = holm([row.p_value for row in rows])
        return [row._replace(p_value=p) for row, p in zip(rows, adjusted, strict=True)]

    @property
    def best(self) -> Estimate:
        """The configuration of the best mean. The test rows chose it, so a part of it is luck."""
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

        Raises
        ------
        ValueError
            If the configuration has no finished fit.
        """
        fits = self._by_configuration().get((loss, sampler))
        if fits is None:
            known = ", ".join(map(str, self._by_configuration()))
            raise ValueError(
                f"(loss, sampler) must be a configuration with a finished fit, {known or 'none'}; "
                f"got {(loss, sampler)}."
            )
        matrix: np.ndarray = np.sum([fit.confusion_matrix for fit in fits], axis=0)
        return matrix

    def configuration(self, loss: str, sampler: str) -> Configuration:
        """Find a configuration by its names.

        Parameters
        ----------
        loss, sampler : str
            Names of a configuration.

        Returns
        -------
        configuration : Configuration
            The configuration.

        Raises
        ------
        ValueError
            If the study has no such configuration.
        """
        known = {(c.loss, c.sampler): c for c in self.configurations}
        if (loss, sampler) not in known:
            raise ValueError(
                f"(loss, sampler) must be a configuration of this study, "
                f"{', '.join(map(str, known))}; got {(loss, sampler)}."
            )
        return known[loss, sampler]

    def make_estimator(self, loss: str, sampler: str) -> Classifier:
        """Make the estimator of a configuration, to be fitted to all rows.

        Parameters
        ----------
        loss, sampler : str
            Names of a configuration.

        Returns
        -------
        estimator : estimator
            Not fitted, with the seed of the study in each ``random_state``.

        Raises
        ------
        ValueError
            If the study has no such configuration.
        """
        params = self.configuration(loss, sampler).params
        return with_params(self.estimator, params, self.seed)

    def code(self, loss: str, sampler: str) -> str:
        """Write Python code that trains a configuration and judges it on rows that are unseen.

        Parameters
        ----------
        loss, sampler : str
            Names of a configuration.

        Returns
        -------
        code : str
            Lines that load the rows, fit the classifier, print its score on unseen rows, and save
            it. Comments name the parts that only you know.

        Raises
        ------
        ValueError
            If the study has no such configuration.
        """
        return write_code(self, loss, sampler)

    def _by_configuration(self) -> dict[tuple[str, str], list[Fit]]:
        fits: dict[tuple[str, str], list[Fit]] = {
            (c.loss, c.sampler): [] for c in self.configurations
        }
        for fit in self.fits:
            fits[fit.loss, fit.sampler].append(fit)
        return {names: done for names, done in fits.items() if done}

    def _known(self, score: str | None) -> str:
        score = self.scoring if score is None else score
        if score not in self.score_names:
            raise ParameterError("score", f"one of {', '.join(self.score_names)}", score)
        return score

    def _ratio(self, names: tuple[str, str]) -> float:
        """Return test rows for each training row, as far as splits share training rows."""
        if self.has_test_set:
            return 0.0
        fits = self._by_configuration()[names]
        return float(np.mean([fit.n_test / fit.n_train for fit in fits]))

    # Words and pictures ------------------------------------------------------------------

    def __repr__(self) -> str:
        """Return the size of the study in a line."""
        return (
            f"LossStudy({plural(len(self.configurations), 'configuration')}, {len(self.fits)} of "
            f"{plural(self.n_planned, 'fit')}, scoring={self.scoring!r})"
        )

    def __str__(self) -> str:
        """Return the summary."""
        return self.summary()

    def _repr_html_(self) -> str:
        """Return the table and the conclusions as a notebook shows them."""
        return write_html(self)

    def summary(self) -> str:
        """Write the scores of all configurations, and the conclusions from them.

        Returns
        -------
        text : str
            Two tables (mean ± standard deviation over fits) and a sentence for each sampler.
        """
        return write_summary(self)

    def describe(self) -> str:
        """Describe the comparison in a line.

        Returns
        -------
        line : str
            Score, number of configurations and fits, splitting and seed.
        """
        return write_description(self)

    def table(self) -> list[list[str]]:
        """Lay out the score that ranks as rows of text. The first row is the head.

        Returns
        -------
        rows : list of list of str
            Loss, sampler, mean ± standard deviation, interval, reference, difference with its
            interval, and adjusted p-value.
        """
        return make_ranking_table(self)

    def scores_table(self, scores: Sequence[str] | None = None) -> list[list[str]]:
        """Lay out several scores as rows of text. The first row is the head.

        Parameters
        ----------
        scores : sequence of str, default=None
            Some of ``score_names``. If None, all but the score that ranks.

        Returns
        -------
        rows : list of list of str
            Loss, sampler, and mean ± standard deviation over fits of each score.
        """
        return make_scores_table(self, scores)

    def conclusions(self) -> list[str]:
        """Say in sentences which differences are reliable, and name the limits of the numbers.

        Returns
        -------
        sentences : list of str
            Leaks, a sentence for each sampler and reference, the best mean, and warnings.
        """
        return draw_conclusions(self)

    def to_frame(self, per: str = "configuration") -> "pandas.DataFrame":
        """Return the scores as a pandas table.

        Parameters
        ----------
        per : {"configuration", "fit"}, default="configuration"
            Whether a row is a configuration or a fit.

        Returns
        -------
        frame : pandas.DataFrame
            Per configuration: ``mean_``, ``std_``, ``low_`` and ``high_`` of each score,
            and ``difference_``, ``difference_low_``, ``difference_high_`` and ``p_value_`` against
            the reference, with loss and sampler as the index. Per fit: the fields of ``fits``.

        Raises
        ------
        ImportError
            If pandas is missing: ``pip install pandas``.
        ValueError
            If ``per`` is unknown, or no fit is finished.
        """
        pd = import_optional("pandas", "to_frame", "study")
        if per not in ("configuration", "fit"):
            raise ParameterError("per", "'configuration' or 'fit'", per)
        if per == "fit":
            left_out = ("scores", "confusion_matrix")
            of_fits: pandas.DataFrame = pd.DataFrame(
                {k: v for k, v in fit.to_dict().items() if k not in left_out} | fit.scores
                for fit in self.fits
            )
            return of_fits
        rows = self._rows()
        frame: pandas.DataFrame = pd.DataFrame(list(rows.values()))
        frame.index = pd.MultiIndex.from_tuples(list(rows), names=["loss", "sampler"])
        return frame

    def to_csv(self, path: PathLike) -> None:
        """Write the table that ``to_frame()`` returns as a csv file, without pandas.

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
        # References have no differences, so their cells stay empty.
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

    def plot(self, *, scoring: str | None = None, ax: "Axes | None" = None) -> LossStudyDisplay:
        """Draw the configurations with their intervals, grouped by sampler.

        Parameters
        ----------
        scoring : str, default=None
            One of ``score_names``. If None, the score that ranks.
        ax : matplotlib.axes.Axes, default=None
            Where to draw. If None, a new figure.

        Returns
        -------
        display : skimbal.displays.LossStudyDisplay
            The picture.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install matplotlib``.
        """
        return LossStudyDisplay.from_study(self, scoring=scoring, ax=ax)

    def to_html(self, path: PathLike, *, commands: Sequence[str] = ()) -> None:
        """Write a report that needs no network: one file with tables, pictures and code.

        Parameters
        ----------
        path : str or path-like
            The file, which is replaced if it exists.
        commands : sequence of str, default=()
            Commands of a shell that train the best configuration and judge it, as
            ``skimbal compare`` knows them. They stand before the code.

        Raises
        ------
        ImportError
            If jinja2 or matplotlib is missing: ``pip install jinja2 matplotlib``.
        OSError
            If the file cannot be written.
        ValueError
            If no fit is finished.
        """
        write_report(self, path, commands=commands)


def package_versions() -> dict[str, str]:
    """Return the versions of the packages on which the scores depend."""
    names = ("skimbal", "torch", "skorch", "scikit-learn", "imbalanced-learn", "numpy")
    return {name: version(name) for name in names}
