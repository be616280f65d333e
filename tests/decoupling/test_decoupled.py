import pickle
import re
import warnings

import numpy as np
import pytest
import sklearn
from imblearn.over_sampling import ADASYN, SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as resampling_pipeline
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

import skimbal
from skimbal import CNN2DClassifier, LossMix, Pretrained, SliceNet
from skimbal.decoupling import DecoupledClassifier
from skimbal.decoupling.rows import split
from skimbal.exceptions import CollapseWarning, ParameterError
from skimbal.persistence import read_card
from skimbal.thresholds import CostMatrixClassifier, PriorCorrectedClassifier
from tests.decoupling.data import COUNTS, images, quick, weights, with_batch_norm

X, Y = images()
SHARES = np.array(COUNTS) / sum(COUNTS)
# Short trainings may end in one class.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:No tau changes:UserWarning"
)


@pytest.fixture(scope="module")
def network():
    return quick().fit(X, Y)


def behind(network, **params):
    return DecoupledClassifier(FrozenEstimator(network), random_state=0, **params)


class Noted(LogisticRegression):
    """A head that keeps the rows that it has learnt from."""

    def fit(self, X, y, sample_weight=None):
        self.given_ = X, y, sample_weight
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("head", ["crt", "lws", "tau"])
def test_last_layer_is_a_classifier_that_is_saved(head, network, tmp_path):
    settings = {} if head == "tau" else {"max_epochs": 2}
    clf = behind(network, head=head, **settings).fit(X, Y)
    assert type(clf.estimator_) is CNN2DClassifier
    proba = clf.predict_proba(X)
    np.testing.assert_array_equal(clf.estimator_.predict_proba(X), proba)
    clf.save(tmp_path / "model.skimbal", description="Decoupled.")
    loaded = skimbal.load(tmp_path / "model.skimbal")
    np.testing.assert_allclose(loaded.predict_proba(X), proba, rtol=1e-5)
    if head != "crt":
        for fitted in (clf, loaded):
            with pytest.raises(AttributeError, match="to no known prior"):
                fitted.effective_prior_  # noqa: B018
    else:
        np.testing.assert_allclose(loaded.effective_prior_, 1 / 3)
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copy.predict_proba(X), proba)
    np.testing.assert_array_equal(clf.transform(X), network.transform(X))
    assert clf.heads_ == []


def section(path, title):
    """Return the facts of a section of a card."""
    text = read_card(path).partition(f"## {title}\n\n")[2].partition("\n\n")[0]
    return dict(line.removeprefix("- ").split(": ", 1) for line in text.splitlines())


HEADS_IN_WORDS = {
    "crt": {"method": "crt", "loss": "ce", "sampler": "balanced", "epochs": "2", "lr": "0.01"},
    "lws": {"method": "lws", "loss": "ce", "sampler": "balanced", "epochs": "2", "lr": "0.01"},
    "tau": {"method": "tau", "tau": "0.5"},
}


@pytest.mark.parametrize("head", HEADS_IN_WORDS)
def test_card_names_the_training_of_the_network_and_of_its_last_layer(head, network, tmp_path):
    settings = {"tau": 0.5} if head == "tau" else {"max_epochs": 2, "lr": 0.01}
    first, again = tmp_path / "first.skimbal", tmp_path / "again.skimbal"
    behind(network, head=head, **settings).fit(X, Y).save(first)
    skimbal.load(first).save(again)
    network.save(tmp_path / "network.skimbal")
    for path in (first, again):
        of_network, of_head = section(path, "Training"), section(path, "Training of the last layer")
        assert of_network == section(tmp_path / "network.skimbal", "Training")
        assert of_network["epochs"] == "3"
        assert of_head.items() >= HEADS_IN_WORDS[head].items()


def test_card_keeps_earlier_heads_and_forgets_them_in_a_new_fit(network, tmp_path):
    first = behind(network, max_epochs=2).fit(X, Y).estimator_
    second = behind(first, head="lws", max_epochs=1).fit(X, Y).estimator_
    second.partial_fit(X, Y).save(tmp_path / "second")
    assert section(tmp_path / "second", "Training of the last layer, 1")["method"] == "crt"
    assert section(tmp_path / "second", "Training of the last layer, 2")["method"] == "lws"
    assert section(tmp_path / "second", "Training")["epochs"] == "4"
    first.set_params(warm_start=True).fit(X, Y).save(tmp_path / "warm")
    assert section(tmp_path / "warm", "Training of the last layer")["epochs"] == "2"
    assert section(tmp_path / "warm", "Training")["epochs"] == "6"
    first.set_params(warm_start=False).fit(X, Y).save(tmp_path / "anew")
    assert section(tmp_path / "anew", "Training of the last layer") == {}
    assert section(tmp_path / "anew", "Training")["epochs"] == "3"


def test_frozen_classifier_stays_as_it_was(network):
    before, seen = weights(network), network.effective_prior_
    for params in ({"max_epochs": 2}, {"head": "tau", "tau": 1.0}):
        behind(network, **params).fit(X, Y)
    for name, tensor in weights(network).items():
        np.testing.assert_array_equal(tensor, before[name])
    np.testing.assert_array_equal(network.effective_prior_, seen)


def test_a_head_of_scikit_learn_learns_from_features_of_held_out_rows():
    clf = DecoupledClassifier(quick(), head=Noted(), cv=0.4, random_state=3).fit(X, Y)
    features, labels, weight = clf.heads_[0].given_
    (parts,) = split(0.4, Y, None, np.random.RandomState(3).randint(np.iinfo(np.int32).max))
    np.testing.assert_array_equal(features, clf.estimators_[0].transform(X[parts[1]]))
    np.testing.assert_array_equal(labels, Y[parts[1]])
    assert weight is None
    # The network has seen the other rows and no more.
    again = clone(clf.estimators_[0]).fit(X[parts[0]], Y[parts[0]])
    for name, tensor in weights(again).items():
        np.testing.assert_array_equal(tensor, weights(clf.estimators_[0])[name])
    expected = clf.heads_[0].predict_proba(clf.transform(X).astype(float))
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    np.testing.assert_allclose(clf.effective_prior_, SHARES, atol=0.03)
    with pytest.raises(AttributeError, match="followed by another head, Noted"):
        clf.estimator_  # noqa: B018
    with pytest.raises(TypeError, match="Use pickle or joblib"):
        clf.save("nowhere.skimbal")


def test_each_network_of_folds_has_a_head_of_its_own():
    groups = np.arange(len(Y)) // 2
    clf = DecoupledClassifier(quick(max_epochs=1), head=Noted(), cv=3, random_state=0)
    clf.fit(X, Y, groups=groups, sample_weight=np.arange(1.0, 61))
    assert len(clf.estimators_) == len(clf.heads_) == 3
    given = [head.given_ for head in clf.heads_]
    weight = np.concatenate([weight for *_, weight in given])
    np.testing.assert_array_equal(np.sort(weight), np.arange(1.0, 61))  # each row once
    of_head = [set(groups[np.isin(np.arange(1.0, 61), w)]) for *_, w in given]
    assert sum(map(len, of_head)) == len(set(groups))  # each group in one head
    parts = [
        head.predict_proba(estimator.transform(X).astype(float))
        for head, estimator in zip(clf.heads_, clf.estimators_, strict=True)
    ]
    np.testing.assert_allclose(clf.predict_proba(X), np.mean(parts, axis=0))
    np.testing.assert_array_equal(clf.predict(X), np.mean(parts, axis=0).argmax(axis=1))
    np.testing.assert_allclose(clf.decision_function(X), np.log(np.mean(parts, axis=0)))
    with pytest.raises(ValueError, match="cv must be None or a share for transform"):
        clf.transform(X)
    with pytest.raises(AttributeError, match="followed by another head"):
        clf.estimator_  # noqa: B018


def test_resampled_features_have_a_known_prior(network):
    clf = behind(network, head=Noted(), sampler=SMOTE(k_neighbors=3)).fit(X, Y)
    assert np.bincount(clf.heads_[0].given_[1]).tolist() == [36, 36, 36]
    np.testing.assert_allclose(clf.effective_prior_, 1 / 3)
    np.testing.assert_allclose(clf.class_prior_, SHARES)
    risks = PriorCorrectedClassifier(FrozenEstimator(clf), prior=SHARES)
    with sklearn.config_context(enable_metadata_routing=False):
        risks.fit(X[:0:-1], Y[:0:-1])
    np.testing.assert_allclose(risks.training_prior_, 1 / 3)
    moved = clf.predict_proba(X) * SHARES * 3
    np.testing.assert_allclose(risks.predict_proba(X), moved / moved.sum(1, keepdims=True))
    with pytest.warns(UserWarning, match="so they are not risks"):
        CostMatrixClassifier(clone(clf), cost_matrix="zero_one").fit(X, Y)


def test_a_pipeline_that_resamples_does_not_tell_its_prior(network):
    head = resampling_pipeline(RandomOverSampler(random_state=0), LogisticRegression())
    clf = behind(network, head=head).fit(X, Y)
    with pytest.raises(AttributeError, match="draws other rows"):
        clf.effective_prior_  # noqa: B018
    with pytest.raises(ValueError, match="training_prior must be given"):
        PriorCorrectedClassifier(FrozenEstimator(clf)).fit(X, Y)


def test_heads_without_probabilities(network):
    for head in ("ncm", LinearSVC()):
        clf = behind(network, head=head).fit(X, Y)
        assert not hasattr(clf, "predict_proba")
        assert not hasattr(clf, "predict_log_proba")
        assert clf.decision_function(X).shape == (60, 3)
        np.testing.assert_array_equal(clf.predict(X), clf.decision_function(X).argmax(axis=1))


NCM = {"head": "ncm"}
REFUSED = [
    ({"head": "knn"}, "head must be one of"),
    ({"cv": 1}, "cv must be"),
    ({"cv": 1.0}, "cv must be"),
    ({"cv": "prefit"}, "cv must be"),
    ({"tau": 0.5}, "tau must be 'auto' for this head"),
    ({"head": "tau", "tau": 2}, "tau must be"),
    ({"head": "tau", "cv": None}, "cv must be a share or folds"),
    ({"head": "tau", "tau": 0.5, "cv": 3}, "cv must be None with a given tau"),
    ({**NCM, "max_epochs": 3}, "max_epochs must be 'auto' for this head"),
    ({**NCM, "cv": 3}, "head must be"),
    ({"head": LinearSVC(), "cv": 3}, "head must be"),
    ({**NCM, "augment": "light"}, "augment must be None for this head"),
    ({"head": LogisticRegression(), "sampler": "balanced"}, "sampler must be 'auto' or a sampler"),
    ({"sampler": SMOTE()}, "sampler must be"),
    ({"sampler": "fair"}, "sampler must be"),
    ({"augment": "heavy"}, "augment must be"),
    ({"max_epochs": 0}, "max_epochs must be"),
    ({"lr": -1}, "lr must be"),
    ({"estimator__logit_adjustment": 1.0}, "estimator__logit_adjustment must be 0"),
    ({"estimator__distributed": True}, "estimator__distributed must be False"),
    ({**NCM, "estimator__n_tta": 4}, "estimator__n_tta must be"),
    ({"head": "lws", "estimator__max_epochs": 0}, "estimator__max_epochs must be at least 1"),
    ({"estimator": LogisticRegression()}, "estimator must be a CNN2DClassifier"),
    ({"estimator": FrozenEstimator(LogisticRegression())}, "estimator must be a CNN2DClassifier"),
    ({"estimator": FrozenEstimator(quick())}, "not fitted"),
]


@pytest.mark.parametrize(("params", "words"), REFUSED)
def test_parameters_are_refused_before_any_training(params, words):
    def fail(*args):
        pytest.fail("trains")

    clf = DecoupledClassifier(quick(module=fail)).set_params(**params)
    with pytest.raises((ValueError, NotFittedError), match=words):
        clf.fit(X, Y)


def test_weights_are_refused_where_a_head_would_drop_them(network):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    for params, words in (
        ({"head": pipeline}, "for a pipeline as head, .* pass the last step alone as head"),
        ({"head": LogisticRegression(), "sampler": SMOTE()}, "with a sampler"),
    ):
        with pytest.raises(ValueError, match=f"sample_weight must be None .*{words}"):
            behind(network, **params).fit(X, Y, sample_weight=np.ones(60))


@pytest.mark.parametrize("head", ["ncm", LogisticRegression()], ids=str)
def test_network_and_head_know_the_same_classes_where_weights_are_0(head):
    weight = np.where(Y == 1, 0.0, 1.0)
    clf = DecoupledClassifier(quick(max_epochs=1), head=head, random_state=0).fit(X, Y, weight)
    assert clf.classes_.tolist() == clf.heads_[0].classes_.tolist() == [0, 2]
    np.testing.assert_allclose(clf.class_prior_, [36 / 45, 9 / 45])
    without = DecoupledClassifier(quick(max_epochs=1), head=head, random_state=0)
    without.fit(X[Y != 1], Y[Y != 1])
    np.testing.assert_allclose(
        clf.decision_function(X), without.decision_function(X), rtol=1e-3, atol=1e-4
    )


def test_folds_and_unknown_classes_are_refused_behind_a_frozen_classifier(network):
    with pytest.raises(ValueError, match="cv must be None with a FrozenEstimator"):
        behind(network, cv=0.3).fit(X, Y)
    with pytest.raises(ValueError, match="no row of the class 2"):
        behind(network, max_epochs=2).fit(X[Y < 2], Y[Y < 2])


class Scaled(nn.Module):
    """A network that changes the output of its last linear layer."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        self.body = with_batch_norm(in_channels, n_classes)

    def forward(self, x):
        return 2 * self.body(x)


def without_linear(in_channels, n_classes):
    layers = nn.Conv2d(in_channels, n_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("module", "words"),
    [(Scaled, "'body.6', whose output is not the logits"), (without_linear, "has no torch.nn.Lin")],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_network_that_does_not_end_in_a_linear_layer_is_refused(module, words, frozen):
    calls = []

    def factory(in_channels, n_classes):
        calls.append(1)
        return module(in_channels, n_classes)

    estimator = quick(module=factory, net=None, max_epochs=1)
    if frozen:
        estimator = FrozenEstimator(estimator.fit(X, Y))
    with pytest.raises(ValueError, match=f"head must be a classifier of scikit-learn.*{words}"):
        DecoupledClassifier(estimator).fit(X, Y)
    assert len(calls) == 1  # the trial
    named = quick(module=module, net=None, max_epochs=1)
    if module is without_linear:
        named.set_params(feature_layer="1")
    clf = DecoupledClassifier(named, head=LogisticRegression()).fit(X, Y)
    assert clf.predict(X).shape == (60,)


def test_warnings_point_at_the_line_of_the_user():
    loss = LossMix(mcc=1, warmup_epochs=0)
    with pytest.warns(CollapseWarning) as caught:
        DecoupledClassifier(quick(max_epochs=1, loss=loss), head="ncm").fit(X, Y)
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.slow
def test_seed_decides_the_result():
    clf = DecoupledClassifier(quick(random_state=None), cv=2, max_epochs=2, random_state=5)
    first, second = (clone(clf).fit(X, Y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = clone(clf).set_params(random_state=6).fit(X, Y).predict_proba(X)
    assert not np.array_equal(first, other)


@pytest.mark.slow
@pytest.mark.parametrize("cv", [None, 0.4])
def test_files_are_read_as_the_network_has_read_them(cv, tmp_path):
    paths = [tmp_path / f"{row}.png" for row in range(60)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(np.kron(image, np.ones((2, 2), np.uint8))).save(path)
    files = skimbal.images.ImageFiles(paths, size=(8, 8))
    clf = DecoupledClassifier(quick(), cv=cv, max_epochs=2, random_state=0).fit(files, Y)
    assert clf.predict_proba(paths[:5]).shape == (5, 3)  # bare paths
    frozen = behind(clf.estimators_[0], max_epochs=2).fit(paths, Y)
    expected = behind(clf.estimators_[0], max_epochs=2).fit(files, Y).predict_proba(files)
    np.testing.assert_allclose(frozen.predict_proba(files), expected, rtol=1e-5)


def backbone():
    """Return a network of three channels that ends in a layer for other classes."""
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 9)
    return nn.Sequential(*layers)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["crt", "lws", "tau", "ncm"])
@pytest.mark.parametrize(
    "estimator",
    [
        quick(3),
        quick(3, module=SliceNet(), net=None),
        quick(3, module=SliceNet(Pretrained(backbone)), net=None),
        quick(module=Pretrained(backbone), net=None),
        quick(module=Pretrained(backbone, freeze="backbone"), net=None),
        quick(module=with_batch_norm, net=None),
        quick(crop_size=7),
        quick(dtype="float64"),
        quick(dtype="bfloat16"),
        quick(input_shape=(8, 8)),
        quick(net={"module__width": 4, "iterator_train__num_workers": 2}),
        quick(n_tta="auto", augment="flip"),
        quick(module="residual", net=None),
    ],
    ids=str,
)
def test_networks_and_images_of_all_kinds(estimator, head):
    images_, labels = images(len(estimator.spatial_axes))
    if estimator.input_shape is not None:
        images_ = images_.reshape(60, -1)
    clf = DecoupledClassifier(estimator.set_params(max_epochs=1), head=head, random_state=0)
    if head in ("crt", "lws"):
        clf.set_params(max_epochs=1)
    clf.fit(images_, labels)
    assert clf.predict(images_).shape == (60,)
    if head != "ncm":
        np.testing.assert_allclose(clf.predict_proba(images_).sum(axis=1), 1, rtol=1e-2)
        assert clf.estimator_.transform(images_).shape == clf.transform(images_).shape


@pytest.mark.slow
def test_features_of_a_network_that_was_not_trained():
    clf = DecoupledClassifier(quick(max_epochs=0), max_epochs=2, random_state=0).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "The network is not trained"
        assert clf.predict_proba(X).shape == (60, 3)


@pytest.mark.slow
def test_search_and_routing():
    clf = DecoupledClassifier(quick(max_epochs=1), max_epochs=1, random_state=0)
    grid = {"head": ["crt", "lws"], "estimator__lr": [1e-3, 3e-3]}
    search = GridSearchCV(clf, grid, cv=2, scoring="balanced_accuracy").fit(X, Y)
    assert search.best_estimator_.predict_proba(X).shape == (60, 3)
    groups, given = np.arange(60) // 2, []

    class Folds(StratifiedGroupKFold):
        def split(self, X, y, groups=None):
            given.append(groups)
            return super().split(X, y, groups)

    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(clf).set_params(cv=Folds(2)).set_fit_request(sample_weight=True)
        routed.set_score_request(sample_weight=False)
        found = cross_validate(
            routed, X, Y, cv=2, params={"groups": groups, "sample_weight": np.ones(60)}
        )
    assert np.isfinite(found["test_score"]).all()
    assert [len(of_fit) for of_fit in given] == [30, 30]


def test_frames_are_asked_for():
    clf = DecoupledClassifier(quick(max_epochs=1), head="ncm").set_output(transform="pandas")
    assert clf.fit(X, Y).transform(X[:3]).columns[0] == "decoupledclassifier0"
    assert len(clf.get_feature_names_out()) == clf.transform(X[:1]).shape[1]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("cRT", "Did you mean 'crt'?"),
        ("T-Norm", "Did you mean 'tau'?"),
        ("nearest_mean", "Did you mean 'ncm'?"),
        ("logistic", "Did you mean LogisticRegression()?"),
        (None, "head must be one of 'crt', 'lws', 'ncm', 'tau', or"),
        (LogisticRegression, "Write head=LogisticRegression()."),
    ],
)
def test_names_of_heads_are_understood(head, said):
    with pytest.raises(ParameterError, match=re.escape(said)):
        DecoupledClassifier(quick(), head=head).fit(X, Y)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"sampler": SMOTE()}, "head=LogisticRegression(), sampler=SMOTE()."),
        ({"sampler": "smote"}, "head=LogisticRegression(), sampler=SMOTE()."),
        ({"sampler": "balancd"}, "Did you mean 'balanced'?"),
        ({"head": LogisticRegression(), "sampler": "balanced"}, "such as RandomOverSampler()"),
    ],
)
def test_samplers_of_batches_and_of_features_are_told_apart(params, said):
    with pytest.raises(ParameterError, match=re.escape(said)):
        DecoupledClassifier(quick(), **params).fit(X, Y)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"sampler": SMOTE(k_neighbors=9)}, "sampler__k_neighbors"),
        ({"sampler": ADASYN(n_neighbors=9)}, "sampler__n_neighbors"),
        ({"head": resampling_pipeline(SMOTE(k_neighbors=9), LogisticRegression())}, "head__smote"),
    ],
    ids=["SMOTE", "ADASYN", "pipeline"],
)
def test_too_few_rows_for_the_neighbours_of_a_sampler_name_the_class(params, name, network):
    said = rf"{name}.* must be less than the number of rows of every class, 9 for class 2; got 9"
    with pytest.raises(ParameterError, match=said):
        behind(network, **{"head": LogisticRegression(), **params}).fit(X, Y)


def test_too_few_rows_for_smote_are_told_before_the_training(monkeypatch):
    monkeypatch.setattr(CNN2DClassifier, "fit", lambda *args: pytest.fail("It trains first."))
    clf = DecoupledClassifier(quick(), head=LogisticRegression(), sampler=SMOTE(k_neighbors=9))
    with pytest.raises(ParameterError, match="9 for class 2"):
        clf.fit(X, Y)
    # Half of the rows are for the head.
    clf.set_params(cv=0.5, sampler=SMOTE(k_neighbors=5))
    with pytest.raises(ParameterError, match=r"[45] for class 2"):
        clf.fit(X, Y)
