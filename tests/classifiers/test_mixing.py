"""Classifiers that mix images or weigh classes late: fits, files, priors and refusals."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback
from torch import nn

import skimbal
from skimbal import CNN2DClassifier, LossMix
from skimbal.augmentation import MAMix, Mixup, Remix
from skimbal.exceptions import ParameterError
from skimbal.persistence import read_card
from skimbal.training import kept_features
from tests.classifiers.data import BOTH, assert_same_weights, global_state, images, small
from tests.resuming import assert_same_fit, fit_in_two

pytestmark = pytest.mark.filterwarnings(
    "ignore:The network predicted one class:sklearn.exceptions.ConvergenceWarning"
)
X, Y = images(n=40, share=0.8)


@pytest.mark.parametrize("augment", ["mixup", ["flip", "remix"], [MAMix(0.4)]], ids=str)
def test_a_seed_gives_one_fit_and_leaves_the_generators(augment):
    before = global_state()
    one, same = (small(augment=augment, max_epochs=2).fit(X, Y) for _ in range(2))
    assert global_state() == before
    assert_same_weights(one, same)
    plain = small(max_epochs=2, sampler=one.net_.blueprint_.sampler).fit(X, Y)
    assert not np.allclose(plain.predict_proba(X), one.predict_proba(X))
    assert_array_equal(one.predict_proba(X), one.predict_proba(X))


@pytest.mark.parametrize("augment", ["remix", "mamix", ["light", "remix"]], ids=str)
def test_a_mix_that_corrects_has_uniform_batches(augment):
    options = {"module": "small", "max_epochs": 1, "random_state": 0}
    clf = CNN2DClassifier(augment=augment, **options).fit(X, Y)
    assert clf.net_.blueprint_.sampler == "uniform"
    assert clf.net_.mixing_[0].class_counts.tolist() == [32, 8]
    with pytest.raises(AttributeError, match="not a shift of the prior"):
        _ = clf.effective_prior_


def test_mixup_keeps_the_prior_and_the_default_batches():
    options = {"module": "small", "augment": "mixup", "max_epochs": 1, "random_state": 0}
    clf = CNN2DClassifier(**options).fit(X, Y)
    assert clf.net_.blueprint_.sampler == "balanced"
    assert_allclose(clf.effective_prior_, [0.5, 0.5])
    clf.set_params(sampler="uniform").fit(X, Y)
    assert_allclose(clf.effective_prior_, [0.8, 0.2])


@pytest.mark.parametrize(
    ("loss", "prior"), [("cb", [0.5, 0.5]), (LossMix(cb=1, cb_beta=0), [0.8, 0.2])], ids=str
)
def test_the_prior_of_weights_by_effective_number(loss, prior):
    clf = small(loss=loss, max_epochs=1).fit(X, Y)
    assert_allclose(clf.effective_prior_, prior, atol=2e-3)


@pytest.mark.parametrize("loss", ["drw", "ldam_drw", "drw+ce"])
def test_the_prior_of_late_weights_is_not_known(loss):
    clf = small(loss=loss, max_epochs=1).fit(X, Y)
    with pytest.raises(AttributeError, match=r"weighs the classes late in the training"):
        _ = clf.effective_prior_


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(), nn.MultiMarginLoss, nn.CrossEntropyLoss(reduction="sum")]
)
def test_a_module_as_a_loss_cannot_take_two_labels(loss):
    with pytest.raises(ParameterError, match=r"loss must be .* with augment=Mixup.*two labels"):
        small(loss=loss, augment="mixup").fit(X, Y)


def test_an_optimizer_with_several_gradients_cannot_mix():
    with pytest.raises(ParameterError, match=r"augment must be .* with this optimizer"):
        small(optimizer="LBFGS", augment="mixup").fit(X, Y)


def test_passes_of_a_prediction_do_not_mix():
    with pytest.raises(ParameterError, match=r"n_tta must be .*augment"):
        small(augment="mixup", n_tta=2).fit(X, Y)
    clf = small(augment=["flip", "mixup"], n_tta=2, max_epochs=1).fit(X, Y)
    assert_array_equal(clf.predict_proba(X[:3]), clf.predict_proba(X)[:3])


def test_calls_of_partial_fit_count_the_classes():
    clf = small(augment="remix")
    clf.partial_fit(X[Y == 0], Y[Y == 0], classes=[0, 1])
    assert clf.net_.mixing_[0].class_counts.tolist() == [32, 32]
    clf.partial_fit(X[Y == 1], Y[Y == 1])
    assert clf.net_.mixing_[0].class_counts.tolist() == [32, 8]
    clf.set_params(augment=None).partial_fit(X, Y)
    assert clf.net_.mixing_ == ()


@BOTH
def test_images_and_volumes_are_mixed_in_float64(classifier):
    n_axes = len(classifier.spatial_axes)
    data, y = images(n=12, ndim=n_axes)
    options = {"augment": "mamix", "loss": "drw+mcc", "micro_batch_size": 4, "batch_size": 6}
    clf = small(classifier, max_epochs=1, **options).fit(data.astype(np.float64), y)
    assert clf.net_.module_.dtype == torch.float64
    assert np.isfinite(clf.history_[:, "train_loss"]).all()


def test_weights_of_rows_reach_the_loss_with_their_labels():
    weight = np.where(np.arange(len(Y)) < 20, 1.0, 0.0)
    clf = small(augment="mixup", max_epochs=2).fit(X, Y, weight)
    changed = X.copy()
    changed[20:] = 1e3 * np.random.default_rng(0).normal(size=changed[20:].shape)
    other = small(augment="mixup", max_epochs=2).fit(changed, Y, weight)
    # A row of weight 0 has no effect, not even in a mixture.
    assert_array_equal(clf.predict_proba(X), other.predict_proba(X))


def test_a_fit_that_was_stopped_goes_on_with_the_same_mixtures(tmp_path):
    def make():
        options = {"loss": LossMix(ldam_drw=1, drw_start=0.5), "augment": ["flip", "remix"]}
        return small(max_epochs=6, **options)

    clf, n_epochs = fit_in_two(make, tmp_path, X, Y, n_epochs=3)
    assert n_epochs == 3
    assert_same_fit(clf, make().fit(X, Y))


@pytest.mark.parametrize("augment", [["flip", Remix(0.5, 4, 0.4)], "mixup", [Mixup(0.2)]], ids=str)
def test_a_file_keeps_mix_and_loss(tmp_path, augment):
    loss = LossMix(drw=1, mcc=0.5, cb_beta=0.99, drw_start=0.5)
    clf = small(augment=augment, loss=loss, max_epochs=2).fit(X, Y)
    clf.save(tmp_path / "m.skimbal")
    again = skimbal.load(tmp_path / "m.skimbal")
    assert again.loss.get_params() == loss.get_params()
    assert repr(again.augment) == repr(augment)
    assert repr(again.net_.mixing_) == repr(clf.net_.mixing_)
    assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    again.save(tmp_path / "again.skimbal")
    card = read_card(tmp_path / "again.skimbal")
    assert type(clf.net_.mixing_[0]).__name__ in str(card)
    again.partial_fit(X, Y)
    assert repr(again.net_.mixing_) == repr(clf.net_.mixing_)


def test_features_of_a_frozen_part_are_not_kept():
    clf = small(augment="mixup", max_epochs=1).fit(X, Y)
    assert not kept_features.are_kept(clf.net_)


@pytest.mark.parametrize("start", [2, 3])
def test_weights_that_would_never_begin_are_refused(start):
    clf = small(loss=LossMix(drw=1, drw_start=start), max_epochs=2)
    with pytest.raises(ParameterError, match=rf"drw_start must be less than the 2 epochs.*{start}"):
        clf.fit(X, Y)
    clf.set_params(max_epochs=0).fit(X, Y)
    clf.set_params(max_epochs=4).fit(X, Y)


def test_a_training_that_ends_before_the_weights_begin_warns():
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    clf = small(loss="ldam_drw", max_epochs=5, callbacks=[Stop()])
    with pytest.warns(UserWarning, match=r"ended after 1 epoch, before .* 4 epochs \(drw_start\)"):
        clf.fit(X, Y)


def test_validation_rows_have_the_weights_from_the_beginning():
    options = {"max_epochs": 5, "train_split": 0.4}
    ce = small(loss="ce", sampler="uniform", **options).fit(X, Y)
    drw = small(loss="drw", **options).fit(X, Y)
    cb = small(loss="cb", **options).fit(X, Y)
    losses = [clf.history_[0, ("train_loss", "valid_loss")] for clf in (ce, drw, cb)]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[2][0] != pytest.approx(losses[1][0], rel=1e-2)
    assert losses[0][1] != pytest.approx(losses[1][1], rel=1e-2)


def test_warm_starts_count_the_epochs_before():
    clf = small(loss="drw", max_epochs=2, warm_start=True).fit(X, Y)
    clf.fit(X, Y)
    n_before = clf.net_.criterion_.epochs_before_weights(clf.net_.max_epochs)
    assert 0 < n_before <= clf.net_.epochs_before_
