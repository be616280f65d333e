"""Decoupled training: a network learns the features, and another method the decisions by them.

:class:`DecoupledClassifier` retrains or rescales the last layer of a network for rare classes, or
puts any classifier of scikit-learn in its place.
"""

from skimbal.decoupling.decoupled import DecoupledClassifier, HeadSpec

__all__ = ["DecoupledClassifier", "HeadSpec"]
