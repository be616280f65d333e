"""The scikit-learn classifiers: everything that users see, around the skorch net inside."""

from skimbal.classifiers.base import CNN2DClassifier, CNN3DClassifier
from skimbal.classifiers.keyed import KeyedClassifier
from skimbal.classifiers.packing import unpack

__all__ = ["CNN2DClassifier", "CNN3DClassifier", "KeyedClassifier", "unpack"]
