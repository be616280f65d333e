"""The scikit-learn classifiers: everything that users see, around the skorch net inside."""

from skimbal.classifiers.base import CNN2DClassifier, CNN3DClassifier

__all__ = ["CNN2DClassifier", "CNN3DClassifier"]
