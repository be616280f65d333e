import pytest

from tests.study.data import made_up


def conclusions(*args, **kwargs):
    return "\n".join(made_up(*args, **kwargs).conclusions())


def test_no_reliable_difference_is_said():
    text = conclusions(
        {("ce", "uniform", None): [0.5, 0.6, 0.7], ("f1", "uniform", "ce"): [0.6, 0.6, 0.6]}
    )
    assert "against ce: no reliable difference in balanced accuracy: f1 (+0.000, p 1)." in text
    assert "reliably" not in text


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "log_loss"])
def test_reliable_differences_are_named_by_their_direction(scoring):
    ce = [0.50, 0.51, 0.49, 0.50]
    up, down = [0.70, 0.71, 0.70, 0.69], [0.30, 0.30, 0.31, 0.29]
    text = conclusions(
        {("ce", "x", None): ce, ("up", "x", "ce"): up, ("down", "x", "ce"): down}, scoring=scoring
    )
    better, worse = ("up", "down") if scoring == "balanced_accuracy" else ("down", "up")
    assert f"reliably better: {better} (" in text
    assert f"reliably worse: {worse} (" in text
    assert f"Best mean: {better} with x sampling" in text
    assert "a part of its lead is luck" in text


def test_what_the_numbers_do_not_show_is_said():
    assert "one fit each" in conclusions({("ce", "x", None): [0.5], ("f1", "x", "ce"): [0.6]})
    text = conclusions({("ce", "x", None): [0.5, 0.6], ("f1", "x", "ce"): [0.6]})
    assert "Not complete: 3 of 4 fits" in text
    text = conclusions(
        {("ce", "x", None): [0.5, 0.6], ("f1", "x", "ce"): [0.6, 0.7]}, steps={"ce": 5, "f1": 4}
    )
    assert "numbers of gradient steps differ" in text
    assert "no reference" in conclusions({("f1", "x", None): [0.5], ("mcc", "x", None): [0.5]})
    empty = made_up({("ce", "x", None): [0.5]})
    empty.fits.clear()
    assert empty.conclusions() == ["No fit is finished."]
    assert "of 1 configuration: made up, 1 fit each" in str(empty)
    with pytest.raises(ValueError, match="no fit is finished"):
        empty.best  # noqa: B018


def test_text_and_notebook():
    study = made_up({("ce", "<b>", None): [0.5, 0.6], ("f1", "<b>", "ce"): [0.6, 0.7]})
    assert repr(study) == "LossStudy(2 configurations, 4 of 4 fits, scoring='balanced_accuracy')"
    lines = str(study).splitlines()
    assert lines[2].split()[:2] == ["loss", "sampler"]
    assert "0.550 ± 0.071" in lines[3]
    assert lines[4].endswith(" +0.100")  # two fits have no interval
    page = study._repr_html_()  # what a notebook asks for
    assert "<td>&lt;b&gt;</td>" in page.replace(" ", "")
    assert "<b>" not in page
