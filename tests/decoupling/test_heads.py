import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score

from skimbal.decoupling import DecoupledClassifier
from skimbal.decoupling.heads import TAUS, NearestMean, tau_normalized
from tests.decoupling.data import COUNTS, images, quick, weights, with_batch_norm

X, Y = images()
# Short trainings may end in one class.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:No tau changes:UserWarning"
)


@pytest.fixture(scope="module")
def network():
    return quick(max_epochs=15).fit(X, Y)


def behind(network, **params):
    return DecoupledClassifier(FrozenEstimator(network), random_state=0, **params).fit(X, Y)


def last_layer(network):
    layer = network.net_.module_.network.get_submodule(network.net_.feature_layer_)
    return layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_tau_normalisation_is_the_formula_of_the_paper(network, tau):
    clf = behind(network, head="tau", tau=tau)
    weight, _ = last_layer(network)
    features = network.transform(X)
    logits = np.zeros((len(X), 3))
    for row, x in enumerate(features):
        for k, w in enumerate(weight):
            logits[row, k] = x @ w / np.sqrt((w**2).sum()) ** tau
    np.testing.assert_allclose(clf.decision_function(X), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(clf.tau_, [tau])


def test_a_class_without_weights_keeps_them():
    weight = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(tau_normalized(weight, 1), [[0.6, 0.8], [0, 0]])


def test_chosen_tau_is_the_least_with_the_best_balanced_accuracy(network):
    clf = behind(network, head="tau")
    scores = [
        balanced_accuracy_score(Y, behind(network, head="tau", tau=float(tau)).predict(X))
        for tau in TAUS[::4]
    ]
    best = balanced_accuracy_score(Y, clf.predict(X))
    assert best >= max(scores)
    below = [s for tau, s in zip(TAUS[::4], scores, strict=True) if tau < clf.tau_[0]]
    assert all(score < best for score in below)


def test_tau_without_an_effect_is_told():
    two, labels = images(counts=(20, 10))
    frozen = quick(max_epochs=1).fit(two, labels)
    layer = frozen.net_.module_.network.get_submodule(frozen.net_.feature_layer_)
    layer.weight.data[1] = -layer.weight.data[0]
    with pytest.warns(UserWarning, match="No tau changes the class of any of the 30 rows"):
        DecoupledClassifier(FrozenEstimator(frozen), head="tau").fit(two, labels)


def test_learnable_scales_multiply_the_logits_and_nothing_else(network):
    before = weights(network)
    clf = behind(network, head="lws", max_epochs=5)
    weight, bias = last_layer(network)
    (scale,) = clf.scales_
    assert not np.allclose(scale, 1)
    logits = scale * (network.transform(X) @ weight.T + bias)
    np.testing.assert_allclose(clf.decision_function(X), logits, rtol=1e-4, atol=1e-4)

    def loss_of(scale):  # cross-entropy of equally common classes
        log_proba = log_softmax(scale * (network.transform(X) @ weight.T + bias), axis=1)
        return -np.mean([log_proba[k == Y, k].mean() for k in range(3)])

    assert loss_of(scale) < loss_of(np.ones(3))
    for name, tensor in weights(network).items():
        np.testing.assert_array_equal(tensor, before[name])


@pytest.mark.parametrize("augment", [None, "light"])
def test_retraining_changes_the_last_layer_and_nothing_else(augment):
    network = quick(module=with_batch_norm, net=None, max_epochs=1).fit(X, Y)
    clf = behind(network, max_epochs=2, augment=augment)
    layer = network.net_.feature_layer_
    before, after = (weights(estimator, layer) for estimator in (network, clf.estimator_))
    assert before.keys() == after.keys()
    assert any("running_var" in name for name in before)
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor, err_msg=name)
    for old, new in zip(last_layer(network), last_layer(clf.estimator_), strict=True):
        assert not np.array_equal(old, new)


def test_the_head_learns_from_changed_images_and_from_batches_of_its_sampler(network):
    seen = []

    def noted(images):
        seen.append(len(images))
        return images

    behind(network, max_epochs=1, augment=noted)
    assert sum(seen) >= len(X)
    uniform = behind(network, max_epochs=1, sampler="uniform")
    np.testing.assert_allclose(uniform.effective_prior_, np.array(COUNTS) / sum(COUNTS))
    balanced = behind(network, max_epochs=1)
    np.testing.assert_allclose(balanced.effective_prior_, 1 / 3)


@pytest.mark.slow
def test_retrained_probabilities_refer_to_equally_common_classes(network):
    clf = behind(network, max_epochs=300, lr=0.05)
    proba = clf.predict_proba(X)
    mean = np.mean([proba[k == Y].mean(axis=0) for k in range(3)], axis=0)
    np.testing.assert_allclose(mean, 1 / 3, atol=0.03)
    np.testing.assert_allclose(clf.effective_prior_, 1 / 3)
    np.testing.assert_allclose(clf.class_prior_, np.array(COUNTS) / sum(COUNTS))


def test_nearest_mean_is_the_largest_cosine():
    rng = np.random.default_rng(0)
    F, weight = rng.normal(size=(30, 4)), rng.random(30)
    y = np.arange(30) % 3
    head = NearestMean().fit(F, y, sample_weight=weight)
    cosines = np.zeros((30, 3))
    for k in range(3):
        mean = sum(w * f for w, f, label in zip(weight, F, y, strict=True) if label == k)
        for row, f in enumerate(F):
            cosines[row, k] = f @ mean / np.sqrt((f @ f) * (mean @ mean))
    np.testing.assert_allclose(head.decision_function(F), cosines)
    np.testing.assert_array_equal(head.predict(F), cosines.argmax(axis=1))
    two = NearestMean().fit(F[y < 2], y[y < 2])
    scores = two.decision_function(F)
    assert scores.ndim == 1
    np.testing.assert_array_equal(two.predict(F), (scores > 0).astype(int))
