"""The card of a model, in Markdown, for people: data, training, scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skimbal.exceptions import ParameterError
from skimbal.training import TrainingNet
from skimbal.typing import is_integer, is_number

__all__ = ["Notes", "head_sections", "training_facts", "write_card"]


@dataclass(frozen=True)
class Notes:
    """The remarks of the user for a card.

    Parameters
    ----------
    scores : mapping of str to float or str, default=None
        Scores by name.
    description, license : str, default=None
        Text.
    """

    scores: Mapping[str, object] | None = None
    description: str | None = None
    license: str | None = None

    def check(self) -> None:
        """Refuse remarks that are not text and numbers."""
        for name in ("description", "license"):
            value = getattr(self, name)
            if not isinstance(value, str | None):
                raise ParameterError(name, "text or None", value)
        scores = self.scores
        if scores is not None and not (
            isinstance(scores, Mapping)
            and all(isinstance(name, str) for name in scores)
            and all(isinstance(score, str) or _is_score(score) for score in scores.values())
        ):
            raise ParameterError(
                "scores",
                "a dict of numbers or texts by name, or None",
                scores,
                "Such as {'balanced accuracy': 0.85}.",
            )


def _is_score(value: object) -> bool:
    # A score that is not defined is NaN.
    return is_number(value) or (isinstance(value, float) and value != value)


def training_facts(net: TrainingNet, n_before: int, random_state: object) -> dict[str, object]:
    """Return the facts about the training of a net, which trained so many epochs before."""
    blueprint, steps = net.blueprint_, [*net.augmentation, *net.mixing_]
    return {
        "loss": getattr(net.criterion_, "name", type(net.criterion_).__name__),
        "sampler": blueprint.sampler,
        "augment": [type(step).__name__ for step in steps] or "none",
        "optimizer": net.optimizer.__name__,
        "lr": blueprint.lr,
        "batch_size": blueprint.batch_size,
        "epochs": n_before + len(net.history),
        "steps of the last fit": sum(row.get("train_batch_count", 0) for row in net.history),
        # A seed that gives the same fit once more, if there is one.
        "random_state": random_state
        if is_integer(random_state)
        else "not a number that can be repeated",
        **_precision_in_words(net),
    }


def _precision_in_words(net: TrainingNet) -> dict[str, object]:
    """Return the precision of the convolutions of a fit on CUDA."""
    tf32 = net.history[-1].get("tf32") if len(net.history) else None
    return {} if tf32 is None else {"TF32 in convolutions": "yes" if tf32 else "no"}


def head_sections(net: TrainingNet) -> dict[str, dict[str, object]]:
    """Return a section for each later change of the last layer alone, by its title."""
    heads = net.head_trainings_
    numbers = [""] if len(heads) == 1 else [f", {i}" for i in range(1, len(heads) + 1)]
    titles = [f"Training of the last layer{number}" for number in numbers]
    return dict(zip(titles, heads, strict=True))


def write_card(
    name: str,
    notes: Notes,
    counts: Mapping[object, float],
    sections: Mapping[str, Mapping[str, object]],
    left_out: Sequence[str],
) -> str:
    """Return the card of a model.

    Parameters
    ----------
    name : str
        Of the class of the classifier.
    notes : Notes
        Remarks of the user.
    counts : mapping
        Weight of each class in the training rows, in samples.
    sections : mapping of str to mapping
        Facts by name, for each section.
    left_out : sequence of str
        Names of the parameters that the file does not hold.
    """
    lines = [f"# Model card: {name}", ""]
    if notes.description:
        lines += [notes.description.strip(), ""]
    lines += [f"License: {notes.license or 'not stated'}", ""]
    lines += ["## Classes", "", "| class | training rows |", "|---|---|"]
    lines += [f"| {_cell(label)} | {count:g} |" for label, count in counts.items()]
    lines += ["", "The rows of a class count by their `sample_weight`, if there were weights.", ""]
    if notes.scores:
        sections = {"Scores": notes.scores, **sections}
    for title, facts in sections.items():
        lines += [f"## {title}", "", *_facts(facts), ""]
    if left_out:
        lines += ["## Not in the file", ""]
        lines += [f"- {name}" for name in left_out]
        lines += [
            "",
            "Only training needs these parameters. Set them before the next training.",
            "",
        ]
    return "\n".join(lines)


def _facts(facts: Mapping[str, object]) -> Iterator[str]:
    for name, value in facts.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        yield f"- {_cell(name)}: {_cell(shown)}"


def _cell(value: Any) -> str:
    """Return text that stays on its line, and in its column of a table."""
    return " ".join(str(value).split()).replace("|", "\\|")
