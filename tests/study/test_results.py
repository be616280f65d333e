import dataclasses
import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from numpy.testing import assert_equal

from skimbal import LossMix
from skimbal.study import Fit
from tests.study.data import PAIR, compare, made_up, quick


def test_pairs_are_taken_split_by_split():
    study = made_up({("ce", "x", None): [0.1, 0.2, 0.3], ("f1", "x", "ce"): [0.2, 0.3]})
    (difference,) = study.differences()
    assert difference.mean == pytest.approx(0.1)


def test_a_fit_is_made_of_what_json_keeps():
    (fit,) = made_up({("ce", "x", None): [0.1]}).fits
    assert Fit.from_dict(json.loads(json.dumps(fit.to_dict()))) == fit
    fields = fit.to_dict()
    fields["scores"].clear()
    assert fit.scores
    with pytest.raises(TypeError, match="scores2"):
        Fit.from_dict({**fields, "scores2": {}})
    with pytest.raises(dataclasses.FrozenInstanceError):
        fit.seed = 1


def test_scores_have_titles():
    study = made_up({("ce", "x", None): [0.1]}, scoring="f1[1]")
    assert study.title() == study.title("f1[1]") == "f1[1]"
    assert study.title("matthews_corrcoef") == "MCC"
    assert study.class_scores() == {"0": "f1[0]", "1": "f1[1]"}
    assert study.class_names == ["0", "1"]
    with pytest.raises(ValueError, match=r"score must be .* got 'mcc'"):
        study.title("mcc")


def test_pictures_group_losses_by_their_terms(small):
    losses = {"weighted": "wce", "plain": "ce", "ce without wce": "ce"}
    study = compare(*small, losses=losses)
    assert [d.reference for d in study.differences()] == ["plain", "plain"]
    display = study.plot()
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    start = labels.index("uniform + weights")
    assert labels[start + 1 :] == ["weighted"]
    assert sorted(labels[:start]) == ["ce without wce", "plain", "uniform"]
    plt.close(display.figure_)


def test_frames(small):
    study = compare(*small, losses=PAIR)
    frame = study.to_frame()
    assert list(frame.index) == [("ce", "uniform"), ("ce+mcc", "uniform")]
    row = frame.loc[("ce+mcc", "uniform")]
    estimate, difference = study.estimates("f1_macro")[1], study.differences("f1_macro")[0]
    assert row["mean_f1_macro"] == estimate.mean
    assert row["std_f1_macro"] == estimate.std
    assert (row["difference_f1_macro"], row["reference"]) == (difference.mean, "ce")
    assert_equal(row["difference_low_f1_macro"], difference.low)
    assert_equal(row["p_value_f1_macro"], difference.p_value)
    fits = study.to_frame("fit")
    assert len(fits) == 4
    assert fits["balanced_accuracy"].tolist() == [
        fit.scores["balanced_accuracy"] for fit in study.fits
    ]
    with pytest.raises(ValueError, match=r"per must be .* got 'row'"):
        study.to_frame("row")


def test_frames_name_their_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install .*\.\[study\]"):
        made_up({("ce", "x", None): [0.5]}).to_frame()


def test_csv_is_the_frame(small, tmp_path):
    study = compare(*small, losses=PAIR)
    study.to_csv(tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv", index_col=["loss", "sampler"])
    pd.testing.assert_frame_equal(table, study.to_frame(), check_exact=True)


def test_without_fits_there_is_no_table(tmp_path):
    study = made_up({("ce", "uniform", None): [0.5, 0.6]})
    study.fits.clear()
    for table in (study.to_frame, lambda: study.to_csv(tmp_path / "table.csv")):
        with pytest.raises(ValueError, match="no fit is finished"):
            table()
    assert not list(tmp_path.iterdir())


def test_the_estimator_of_a_configuration_has_the_seed_of_the_study(small):
    study = compare(
        *small,
        losses=[LossMix(ce=1, mcc=0.5)],
        samplers=["balanced"],
        estimator=quick(net={"optimizer__weight_decay": 1e-4}),
    )
    made = study.make_estimator("LossMix(ce=1, mcc=0.5)", "balanced")
    assert made.get_params()["loss__mcc"] == 0.5
    assert (made.sampler, made.max_epochs, made.net) == (
        "balanced",
        1,
        {"optimizer__weight_decay": 1e-4},
    )
    assert made.random_state == study.seed == 0
    assert not hasattr(made, "classes_")
    with pytest.raises(ValueError, match=r"configuration of this study.*got \('ce', 'balanced'\)"):
        study.code("ce", "balanced")
    with pytest.raises(ValueError, match=r"finished fit.*got \('ce', 'balanced'\)"):
        study.confusion_matrix("ce", "balanced")
