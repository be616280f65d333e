"""Pictures of explanations: panels, planes, signs, titles, refusals."""

import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.displays import ExplanationDisplay
from skimbal.exceptions import ParameterError
from skimbal.explanation import explain
from tests.displays.data import overlaps
from tests.plain import plain


def noise(n, *shape):
    X = np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)
    return X, np.array(["$ill$", "well_"])[np.arange(n) % 2]


@pytest.fixture(scope="module")
def plane():
    X, y = noise(12, 10, 9)
    return plain(CNN2DClassifier, max_epochs=1, random_state=0).fit(X, y), X, y


def titles(display):
    return [row[0].get_title(loc="left") for row in display.axes_]


def test_an_image_has_a_panel_alone_and_a_panel_with_its_map(plane):
    clf, X, y = plane
    display = ExplanationDisplay.from_estimator(
        clf, X[:2], y=y[:2], target="well_", display_labels=["ill", "well"]
    )
    assert display.axes_.shape == (2, 2)
    np.testing.assert_array_equal(display.maps, explain(clf, X[:2], target="well_"))
    name, proba = dict(zip(clf.classes_, ["ill", "well"], strict=True)), clf.predict_proba(X[:2])
    for i, title in enumerate(titles(display)):
        assert title == (
            f"true {name[y[i]]}, predicted {name[clf.predict(X[:2])[i]]}\n"
            f"map for well, probability {proba[i, 1]:.3f}"
        )
        alone, under = display.axes_[i]
        (image,), (background, overlay) = alone.get_images(), under.get_images()
        np.testing.assert_array_equal(image.get_array(), X[i])
        np.testing.assert_array_equal(background.get_array(), X[i])
        assert overlay is display.overlays_[i][0]
        np.testing.assert_array_equal(overlay.get_array(), display.maps[i])
    assert overlaps(display.figure_) == []
    assert display.ax_ is display.axes_[0, 0]


def test_names_are_no_formulas(plane):
    clf, X, _ = plane
    display = ExplanationDisplay.from_estimator(clf, X[:1], target="$ill$")
    display.figure_.draw_without_rendering()
    assert "map for $ill$" in titles(display)[0]
    assert "true" not in titles(display)[0]


def test_a_volume_has_the_planes_through_the_maximum():
    X, y = noise(8, 5, 6, 7)
    clf = plain(CNN3DClassifier, max_epochs=1, random_state=0).fit(X, y)
    display = ExplanationDisplay.from_estimator(clf, X[:1], method="occlusion", window=3)
    d, h, w = np.unravel_index(np.abs(display.maps[0]).argmax(), (5, 6, 7))
    planes = [(slice(None), d), (slice(None), slice(None), h), (Ellipsis, w)]
    labels = [f"w   (d = {d})", f"w   (h = {h})", f"h   (w = {w})"]
    assert [ax.get_xlabel() for ax in display.axes_[0]] == labels
    assert [ax.get_ylabel() for ax in display.axes_[0]] == ["h", "d", "d"]
    for panel, plane in zip(display.axes_[0], planes, strict=True):
        image, overlay = panel.get_images()
        np.testing.assert_allclose(image.get_array(), X[:1][plane][0])
        np.testing.assert_array_equal(overlay.get_array(), display.maps[plane][0])
    assert overlaps(display.figure_) == []


def test_signs_differ_by_line_and_zero_is_the_middle_of_the_scale():
    maps = np.zeros((1, 8, 8))
    maps[0, 1:3, 1:3], maps[0, 5:7, 5:7] = 2.0, -1.5
    display = ExplanationDisplay(np.zeros((1, 1, 8, 8)), maps, ["ill"]).plot()
    styles = [lines.get_linestyle()[0] for lines in display.axes_[0, 1].collections]
    assert [style[1] is None for style in styles] == [False, False, True, True]
    assert display.colorbars_[0].mappable.get_clim() == (-2, 2)
    one = ExplanationDisplay(np.zeros((1, 1, 8, 8)), np.abs(maps), ["ill"]).plot()
    assert one.colorbars_[0].mappable.get_clim() == (0, 2)
    alpha = one.overlays_[0][0].get_alpha()
    assert alpha[0, 0] == 0 < alpha[5, 5] < alpha[1, 1] < 1


def test_an_empty_map_and_a_constant_image_are_drawn():
    display = ExplanationDisplay(np.ones((1, 1, 4, 4)), np.zeros((1, 4, 4)), ["ill"]).plot()
    display.figure_.draw_without_rendering()
    assert not display.axes_[0, 1].collections


@pytest.mark.parametrize(("n_channels", "shape"), [(1, (6, 5)), (2, (6, 5)), (3, (6, 5, 3))])
def test_three_channels_are_colours(n_channels, shape):
    images = np.random.default_rng(0).integers(0, 255, (1, n_channels, 6, 5)).astype(np.uint8)
    display = ExplanationDisplay(images, np.zeros((1, 6, 5)), ["ill"]).plot()
    assert display.ax_.get_images()[0].get_array().shape == shape


def test_given_axes_are_used(plane):
    clf, X, _ = plane
    axes = plt.subplots(2, 2, layout="constrained")[1]
    display = ExplanationDisplay.from_estimator(clf, X[:2], ax=axes)
    assert (display.axes_ == axes).all()
    with pytest.raises(ParameterError, match="Each of the 2 images needs 2 axes"):
        ExplanationDisplay.from_estimator(clf, X[:2], ax=axes[0])


def test_wrong_arguments_are_refused(plane):
    clf, X, y = plane
    for kwargs, text in (
        ({"target": "no"}, "target must be among the classes"),
        ({"target": ["well_"] * 2}, "target must be a label, or 3 labels"),
        ({"y": y[:2]}, "inconsistent numbers of samples"),
        ({"display_labels": ["a"]}, "display_labels must be a name for each"),
    ):
        with pytest.raises(ValueError, match=text):
            ExplanationDisplay.from_estimator(clf, X[:3], **kwargs)
    with pytest.raises(ParameterError, match="X must be at most 20 images"):
        ExplanationDisplay.from_estimator(clf, np.repeat(X, 2, 0))
    with pytest.raises(ParameterError, match="maps must be an array of shape"):
        ExplanationDisplay(X[:2, None], np.zeros((2, 9, 9)), ["a", "b"]).plot()


def test_probabilities_are_not_rounded_to_certainty(plane):
    clf, X, _ = plane
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(clf), "predict_proba", lambda self, X: np.array([[1e-9, 1 - 1e-9]]))
        for target, text in (("$ill$", "< 0.001"), ("well_", "> 0.999")):
            display = ExplanationDisplay.from_estimator(clf, X[:1], target=target)
            assert titles(display)[0].endswith(f"probability {text}")


def test_a_missing_package_is_named_with_its_extra(plane, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=re.escape("ExplanationDisplay.from_estimator needs matplotlib")
    ):
        ExplanationDisplay.from_estimator(plane[0], plane[1][:1])
