"""Tests of the errors about memory."""

import numpy as np
import pytest
import torch
from torch import nn

from skimbal import CNN2DClassifier

X, Y = np.random.default_rng(0).integers(0, 200, (40, 6, 6), np.uint8), np.arange(40) % 2


def too_much_of_torch():
    torch.empty(2**50)


def too_much_of_numpy():
    np.ones(2**50)


def too_much_of_cuda():
    raise torch.cuda.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity"
    )


def another_error():
    raise RuntimeError("expected scalar type Float")


class TooLarge(nn.Module):
    """A network that needs too much, in training or for many rows."""

    def __init__(self, fails):
        super().__init__()
        self.fails, self.in_training = fails, True
        self.last = nn.Linear(36, 2)

    def forward(self, x):
        if self.training == self.in_training and len(x) > 1:
            self.fails()
        return self.last(x.flatten(1))


ERRORS = [
    (too_much_of_torch, MemoryError, "you tried to allocate 4503599627370496 bytes"),
    (too_much_of_numpy, MemoryError, "Unable to allocate 8.00 PiB"),
    (too_much_of_cuda, torch.cuda.OutOfMemoryError, "Tried to allocate 2.50 GiB"),
]


def classifier(fails):
    return CNN2DClassifier(
        module=lambda c, k: TooLarge(fails), micro_batch_size=16, batch_size=32, max_epochs=1
    )


@pytest.mark.parametrize(("fails", "error", "reason"), ERRORS)
def test_a_fit_names_the_parameters_that_decide(fails, error, reason):
    match = rf"{reason}.*, with batch_size=32 and micro_batch_size=16 on device='cpu'\. A smaller"
    with pytest.raises(error, match=match):
        classifier(fails).fit(X, Y)


@pytest.mark.parametrize(("fails", "error", "reason"), ERRORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_prediction_names_the_size_of_a_block(fails, error, reason):
    clf = classifier(lambda: None).fit(X, Y)
    network = clf.net_.module_.network
    network.fails, network.in_training = fails, False
    for predicts in (clf.predict, clf.predict_proba, clf.transform):
        with pytest.raises(error, match=rf"{reason}.*batch_size and micro_batch_size do not count"):
            predicts(X)
    # The remedy of the message.
    clf.net_.iterator_valid__batch_size = 1
    assert clf.predict(X).shape == (40,)


def test_another_error_stays_as_it_is():
    with pytest.raises(RuntimeError, match=r"^expected scalar type Float$"):
        classifier(another_error).fit(X, Y)
