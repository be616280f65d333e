"""scikit-learn compatible CNN classifiers for imbalanced 2D and 3D images."""

from importlib import import_module
from typing import TYPE_CHECKING

from skimbal.signals import end_at_once_while_loading

end_at_once_while_loading()

if TYPE_CHECKING:
    from skimbal import (
        augmentation,
        callbacks,
        datasets,
        displays,
        evaluation,
        explanation,
        images,
        losses,
        memory,
        networks,
        persistence,
        sampling,
        study,
    )
    from skimbal.classifiers import CNN2DClassifier, CNN3DClassifier, KeyedClassifier
    from skimbal.exceptions import CollapseWarning
    from skimbal.losses import LossMix
    from skimbal.networks import Pretrained, SliceNet
    from skimbal.persistence import load
    from skimbal.sampling import NDSampler

__version__ = "0.1.0"

__all__ = [
    "CNN2DClassifier",
    "CNN3DClassifier",
    "CollapseWarning",
    "KeyedClassifier",
    "LossMix",
    "NDSampler",
    "Pretrained",
    "SliceNet",
    "__version__",
    "augmentation",
    "callbacks",
    "datasets",
    "displays",
    "evaluation",
    "explanation",
    "images",
    "load",
    "losses",
    "memory",
    "networks",
    "persistence",
    "sampling",
    "study",
]

#: The room of each public name that is not a room itself.
_ROOMS = {
    "CNN2DClassifier": "classifiers",
    "CNN3DClassifier": "classifiers",
    "CollapseWarning": "exceptions",
    "KeyedClassifier": "classifiers",
    "LossMix": "losses",
    "NDSampler": "sampling",
    "Pretrained": "networks",
    "SliceNet": "networks",
    "load": "persistence",
}


def __getattr__(name: str) -> object:
    """Import what a public name needs when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _ROOMS:
        return import_module(f"{__name__}.{name}")
    value: object = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
