import numpy as np
import pytest
import torch
from imblearn.over_sampling import RandomOverSampler
from torch import nn

import skimbal
from skimbal import CNN2DClassifier, LossMix

SHARES = np.array([0.75, 0.25])
Y = np.repeat([0, 1], [24, 8])
X = np.random.default_rng(0).normal(size=(32, 6, 6)).astype("float32")


def fitted(**options):
    options = {"module": "small", "augment": None, "max_epochs": 1, "random_state": 0} | options
    weight = options.pop("sample_weight", None)
    return CNN2DClassifier(**options).fit(X, Y, weight)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 1]),
        ({"sampler": "uniform"}, [3, 1]),
        ({"sampler": "stratified"}, [3, 1]),
        ({"sampler": "weighted"}, [1, 1]),
        ({"sampler": RandomOverSampler(sampling_strategy=0.5)}, [2, 1]),
        ({"sampler": "uniform", "class_weight": {0: 1, 1: 2}}, [3, 2]),
        ({"sampler": "balanced", "class_weight": {0: 1, 1: 2}}, [1, 2]),
        ({"sampler": "uniform", "sample_weight": 1 + Y}, [3, 2]),
        ({"sampler": "uniform", "logit_adjustment": 1.0}, [1, 1]),
        ({"sampler": "uniform", "logit_adjustment": 0.5}, [3**0.5, 1]),
        ({"loss": "wce"}, [1, 1]),
        ({"loss": "la"}, [1, 1]),
        ({"loss": LossMix(la=1, la_tau=0.5)}, [3**0.5, 1]),
        ({"loss": "balanced_softmax", "sampler": "balanced"}, [1, 3]),
        ({"loss": "ce+mcc"}, [1, 1]),
        (
            {"loss": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0])), "sampler": "balanced"},
            [1, 2],
        ),
        ({"loss": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]), reduction="sum")}, [3, 2]),
        ({"loss": LossMix(ce=1, label_smoothing=0.2)}, [1, 1]),
    ],
    ids=str,
)
def test_probabilities_refer_to_the_rows_that_the_loss_sees(options, expected):
    prior = fitted(**options).effective_prior_
    np.testing.assert_allclose(prior, np.array(expected) / sum(expected), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*may weigh:UserWarning")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "ce+mcc", "sampler": "uniform"}, r"loss ce \+ mcc has no minimum"),
        ({"loss": "focal", "sampler": "uniform"}, "loss focal has no minimum"),
        ({"loss": "ldam", "sampler": "balanced"}, "loss ldam has no minimum"),
        ({"loss": nn.MultiMarginLoss()}, "effect of the loss MultiMarginLoss"),
        ({"loss": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]))}, "divides by the weights of each"),
        (
            {"loss": LossMix(ce=1, label_smoothing=0.2), "sampler": "uniform"},
            r"smoothed by 0\.2 raise",
        ),
        (
            {"loss": nn.CrossEntropyLoss(label_smoothing=0.1), "sampler": "uniform"},
            r"smoothed by 0\.1 raise",
        ),
    ],
    ids=str,
)
def test_an_unknown_prior_says_why(options, words):
    clf = fitted(**options)
    with pytest.raises(AttributeError, match=words):
        _ = clf.effective_prior_
    assert not hasattr(clf, "effective_prior_")
    np.testing.assert_allclose(clf.class_prior_, SHARES)


def test_calls_of_partial_fit_add_up():
    clf = CNN2DClassifier(sampler="uniform", module="small", augment=None, random_state=0)
    clf.partial_fit(X[:24], Y[:24], classes=[0, 1])
    assert clf.effective_prior_.tolist() == [1, 0]
    clf.partial_fit(X[16:], Y[16:])
    np.testing.assert_allclose(clf.effective_prior_, [0.8, 0.2])
    with pytest.raises(AttributeError, match="not fitted"):
        _ = CNN2DClassifier().effective_prior_


def test_the_minimum_of_the_loss_has_the_prior():
    """Identical images: the best probabilities are the shares, as far as the loss sees them."""
    same = np.ones((32, 6, 6), "float32")
    same[:, 0, 0] = np.linspace(0.9, 1.1, 32)
    for options in ({"sampler": "uniform"}, {}, {"sampler": "uniform", "loss": "ce+wce"}):
        clf = CNN2DClassifier(
            module=lambda c, k: nn.Sequential(nn.Flatten(), _Bias(k)),
            augment=None,
            max_epochs=150,
            lr=0.05,
            batch_size=32,
            random_state=0,
            **options,
        ).fit(same, Y)
        np.testing.assert_allclose(clf.predict_proba(same).mean(0), clf.effective_prior_, atol=0.03)


class _Bias(nn.Module):
    """Logits that are the same for all images."""

    def __init__(self, n_classes):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, images):
        return self.bias.expand(len(images), -1) + 0 * images.sum()


@pytest.mark.parametrize("options", [{"loss": "la"}, {"logit_adjustment": 0.5}])
def test_a_loaded_model_knows_its_prior(options, tmp_path):
    clf = fitted(sampler="uniform", **options)
    clf.save(tmp_path / "model.skimbal")
    loaded = skimbal.load(tmp_path / "model.skimbal")
    np.testing.assert_array_equal(loaded.effective_prior_, clf.effective_prior_)


@pytest.mark.filterwarnings("ignore:The file of the model does not hold:UserWarning")
def test_a_loaded_model_knows_why_it_does_not_know_its_prior(tmp_path):
    fitted(loss=nn.MultiMarginLoss(), sampler="uniform").save(tmp_path / "model.skimbal")
    loaded = skimbal.load(tmp_path / "model.skimbal")
    with pytest.raises(AttributeError, match="effect of the loss MultiMarginLoss"):
        _ = loaded.effective_prior_
