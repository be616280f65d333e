"""The numbers of an evaluation, and how to find them."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix

from skimbal.evaluation.operating import OperatingPoint
from skimbal.evaluation.results import Level, ScoreEstimate
from skimbal.evaluation.scores import CLASS_SCORES, OVERALL_SCORES
from skimbal.evaluation.worst import WorstError
from skimbal.exceptions import ParameterError

__all__ = ["Scored"]


@dataclass(eq=False, repr=False)
class Scored:
    """The numbers of an evaluation, as tables, sentences and pictures ask for them."""

    classifier: str
    images: Level
    patients: Level | None
    pool: str | None
    scores: list[ScoreEstimate]
    operating_points: list[OperatingPoint]
    notes: list[str]
    worst: list[WorstError]
    facts: list[tuple[str, str]]
    n_bootstraps: int
    confidence_level: float
    seed: int
    bootstrap_unit: str
    stratify: bool

    def __repr__(self) -> str:
        """Return the number of rows and classes."""
        sizes = ", ".join(f"n_{level.name}={len(level.y_true)}" for level in self.levels)
        return (
            f"{type(self).__name__}({self.classifier}, {sizes}, n_classes={len(self.class_names)})"
        )

    @property
    def classes(self) -> np.ndarray:
        """Class labels, in the order of the probabilities."""
        return self.images.classes

    @property
    def class_names(self) -> list[str]:
        """Class labels as text."""
        return [str(label) for label in self.classes.tolist()]

    @property
    def levels(self) -> list[Level]:
        """The images, and the patients if there are any."""
        return [self.images, *([] if self.patients is None else [self.patients])]

    def level(self, name: str) -> Level:
        """Return the images or the patients.

        Parameters
        ----------
        name : {"images", "patients"}
            Which.

        Returns
        -------
        level : Level
            Their labels, probabilities and decisions.

        Raises
        ------
        ParameterError
            If there are no patients, or the name is another.
        """
        for level in self.levels:
            if level.name == name:
                return level
        known = " or ".join(repr(level.name) for level in self.levels)
        raise ParameterError("level", known, name, "Pass groups to evaluate patients.")

    def find(
        self, score: str, class_name: str = "", *, level: str = "images", rule: str | None = None
    ) -> ScoreEstimate:
        """Find a score.

        Parameters
        ----------
        score : str
            Name of the score, such as ``"sensitivity"`` or ``"balanced_accuracy"``.
        class_name : str, default=""
            The class as text. Empty for scores of all classes together.
        level : {"images", "patients"}, default="images"
            Whether the rows are images or patients.
        rule : str, default=None
            Name of the rule of decision. If None, the main rule. Scores of probabilities have none.

        Returns
        -------
        estimate : ScoreEstimate
            The score with its interval.

        Raises
        ------
        ParameterError
            If there is no such score, class, level or rule.
        """
        rows = self.level(level)
        name = rows.rule if rule is None else rule
        wanted = (level, score, class_name)
        for row in self.scores:
            if (row.level, row.score, row.class_name) == wanted and row.rule in (name, ""):
                return row
        of_classes = score in CLASS_SCORES
        for parameter, value, known in (
            ("score", score, [*CLASS_SCORES, *OVERALL_SCORES]),
            ("class_name", class_name, self.class_names if of_classes else [""]),
            ("rule", rule, rows.decisions),
        ):
            if value not in known and value is not None:
                raise ParameterError(parameter, f"one of {', '.join(map(repr, known))}", value)
        raise AssertionError(wanted)

    def confusion_matrix(self, level: str = "images", rule: str | None = None) -> np.ndarray:
        """Count the rows of each true class that were taken for each class.

        Parameters
        ----------
        level : {"images", "patients"}, default="images"
            Whether the rows are images or patients.
        rule : str, default=None
            Name of the rule of decision. If None, the main rule.

        Returns
        -------
        counts : ndarray of int of shape (n_classes, n_classes)
            Numbers of rows, in samples, true classes by row.

        Raises
        ------
        ParameterError
            If there is no such level or rule.
        """
        rows = self.level(level)
        name = rows.rule if rule is None else rule
        if name not in rows.decisions:
            raise ParameterError("rule", f"one of {', '.join(map(repr, rows.decisions))}", rule)
        counts: np.ndarray = confusion_matrix(
            rows.y_true, rows.decisions[name], labels=self.classes
        )
        return counts
