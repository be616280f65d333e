"""Classifiers without the settings that a fit chooses by the data, for tests of something else."""

from skimbal import CNN2DClassifier

#: The small network on the images as they are, each once in an epoch.
PLAIN = {
    "loss": "ce+mcc",
    "sampler": "uniform",
    "augment": None,
    "module": "small",
    "max_epochs": 30,
    "batch_size": 64,
    "optimizer": "adam",
    "lr": 1e-3,
    "lr_schedule": "cosine",
}


def plain(classifier=CNN2DClassifier, **params):
    """Make a classifier with the plain settings, or the given settings in their place."""
    return classifier(**{**PLAIN, **params})
