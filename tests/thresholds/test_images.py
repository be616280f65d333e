"""Decisions with networks and images in each form."""

import numpy as np
import pytest
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_predict

from skimbal import CNN2DClassifier
from skimbal.images import ImageFiles
from skimbal.thresholds import (
    CostMatrixClassifier,
    PriorCorrectedClassifier,
    TunedOffsetsClassifierCV,
)

Y = np.repeat(["benign", "malign", "normal"], [10, 6, 16])
COSTS = {(t, p): 5 if t == "malign" else 1 for t in set(Y) for p in set(Y) if t != p}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(len(Y))]
    for path, label in zip(paths, Y, strict=True):
        pixels = rng.integers(0, 100, (8, 8)) + 60 * (label == "malign")
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return paths


def network():
    return CNN2DClassifier(module="small", augment=None, max_epochs=1, random_state=0)


WRAPPERS = [
    TunedOffsetsClassifierCV(network(), cv=2),
    PriorCorrectedClassifier(network()),
    CostMatrixClassifier(PriorCorrectedClassifier(network()), cost_matrix=COSTS),
    TunedOffsetsClassifierCV(PriorCorrectedClassifier(network()), cv=2),
]


@pytest.mark.filterwarnings("ignore:The offsets do not help:UserWarning")
@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda wrapper: type(wrapper).__name__)
def test_files_are_read_as_by_the_network(wrapper, paths):
    texts = [str(path) for path in paths]
    fitted = wrapper.fit(ImageFiles(texts), Y)
    expected = fitted.predict_proba(ImageFiles(texts))
    np.testing.assert_array_equal(fitted.predict_proba(texts), expected)
    assert fitted.predict(texts[0]).shape == (1,)
    assert set(fitted.predict(texts)) <= set(Y)
    assert fitted.n_features_in_ == 64


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda wrapper: type(wrapper).__name__)
def test_a_folder_is_no_list_of_paths_for_a_fit(wrapper):
    with pytest.raises(TypeError, match=r"^X must be a list of paths, one for .*got 'folder'"):
        wrapper.fit("folder", Y)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_path_behind_a_classifier_that_counts_letters_is_refused(paths):
    texts = [str(path) for path in paths]
    clf = network().fit(texts, Y)
    scaled = CalibratedClassifierCV(FrozenEstimator(clf), method="sigmoid").fit(texts, Y)
    assert len(scaled.predict_proba(texts[0])) == len(texts[0])  # a row for each letter
    frozen = FrozenEstimator(scaled)
    for wrapper in (
        CostMatrixClassifier(frozen, cost_matrix=COSTS),
        PriorCorrectedClassifier(frozen, training_prior="estimated").fit(texts, Y),
        TunedOffsetsClassifierCV(scaled, cv="prefit", refit=False).fit(texts, Y),
    ):
        with pytest.raises(TypeError, match=r"^X must be a list of paths.*Pass \[path\]"):
            wrapper.predict(texts[0])
        assert len(wrapper.predict(texts[:1])) == 1
    with pytest.raises(TypeError, match=r"^X must be a list of paths"):
        PriorCorrectedClassifier(FrozenEstimator(clf)).fit("f" * len(Y), Y)


@pytest.mark.filterwarnings("ignore:The offsets do not help:UserWarning")
def test_lists_of_paths_are_cut_into_folds(paths):
    texts = [str(path) for path in paths]
    tuned = TunedOffsetsClassifierCV(network(), cv=2).fit(texts, Y)
    assert set(tuned.offset_of_class_) == set(Y)
    proba = cross_val_predict(
        PriorCorrectedClassifier(network()), ImageFiles(texts), Y, cv=2, method="predict_proba"
    )
    assert proba.shape == (len(Y), 3)


@pytest.mark.filterwarnings("ignore:The estimated share of the class:UserWarning")
def test_new_images_without_labels_give_a_prior(paths):
    texts = [str(path) for path in paths]
    fitted = network().fit(texts, Y)
    later = PriorCorrectedClassifier(FrozenEstimator(fitted)).fit_prior(texts)
    assert later.training_prior_origin_ == "effective_prior_ of CNN2DClassifier"
    np.testing.assert_allclose(later.training_prior_, 1 / 3)
    assert sum(later.prior_of_class_.values()) == pytest.approx(1)
