"""scikit-learn compatible CNN classifiers for imbalanced 2D and 3D images."""

from skimbal.signals import end_at_once_while_loading

end_at_once_while_loading()

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
