"""The page of an evaluation: complete in itself, for all readers and for paper."""

import functools
import itertools
import os
import re

import matplotlib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from skimbal.evaluation import evaluate_predictions, pictures, report, words
from tests.reports.pages import (
    Page,
    check_narrow_screen,
    check_print,
    check_that_a_browser_shows_it,
    check_that_nothing_comes_from_elsewhere,
)

EVIL = "<script>alert('x')</script>"
NASTY = [EVIL, 'a, "b" & {{ 7 * 7 }}', "$\\frac$ " + "very long name " * 8]


def evaluated(names, n=90, skill=1.5, *, with_patients=True, with_images=True, **kwargs):
    """Evaluate random predictions, the classes in turn."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % len(names)
    logits = rng.normal(size=(n, len(names)))
    logits[np.arange(n), y] += skill
    proba = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array(names, dtype=object)
    groups = [f"<i>{i % len(names)}-{i % 7}</i>" for i in range(n)] if with_patients else None
    images = rng.integers(256, size=(n, 12, 10), dtype=np.uint8) if with_images else None
    return evaluate_predictions(
        labels[y], proba, labels, groups=groups, X=images, n_bootstraps=40, random_state=0, **kwargs
    )


CASES = {
    "nasty": lambda: evaluated(NASTY),
    "rows alone": lambda: evaluated(["no", "yes"], with_patients=False, with_images=False),
    "no error": lambda: evaluated(["no", "yes"], 8, skill=99),
    "one class": lambda: evaluate_predictions([1] * 5, [[0.2, 0.8]] * 5, [0, 1], random_state=0),
    "14 classes": lambda: evaluated([f"organ {k}" for k in range(14)], 280, pool="max"),
}
DEFAULT = "nasty"
ALL_CASES = [
    name if name == DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in CASES
]


@pytest.fixture(scope="module")
def case_of():
    return functools.cache(lambda name: CASES[name]())


@pytest.fixture(scope="module")
def path_of(case_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluations")

    @functools.cache
    def path_of(name):
        path = folder / f"{name}.html"
        case_of(name).to_html(path)
        return path

    return path_of


@pytest.mark.parametrize("name", ALL_CASES)
def test_every_evaluation_makes_a_well_formed_page(name, path_of, case_of):
    page, found = Page(path_of(name)), case_of(name)
    check_that_nothing_comes_from_elsewhere(page)
    assert page.texts("title") == page.texts("h1") == [f"Evaluation of {found.classifier}"]
    levels = [int(e["tag"][1]) for e in page.all("h1", "h2", "h3", "h4")]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    names = [e["attributes"].get("id") for e in page.elements if e["attributes"].get("id")]
    assert len(set(names)) == len(names)
    assert [e["attributes"]["href"] for e in page.all("a")] == [f"#{name}" for name in names]
    for cell in page.all("th", "td"):
        assert cell["text"].strip()
    for picture in page.all("img"):
        assert re.search(r"\d", picture["attributes"]["alt"])
    regions = [e["attributes"]["aria-label"] for e in page.all("div") if "role" in e["attributes"]]
    assert len(set(regions)) == len(regions)
    items = page.texts("li")
    for note in found.notes:
        assert " ".join(note.split()) in items


def test_names_of_classes_patients_and_files_are_text(path_of):
    page = Page(path_of("nasty"))
    assert not page.all("script", "i", "b")
    assert page.tables[2][1][0] == EVIL
    (captions,) = [page.texts("figcaption")]
    assert any(re.search(r"Image \d+, patient <i>\d-\d</i>\.$", text) for text in captions)
    assert "{{ 7 * 7 }}" in page.source


def test_tables_hold_the_scores_of_images_and_patients(path_of, case_of):
    page, found = Page(path_of("nasty")), case_of("nasty")
    overall, _counts, of_images, further, *others = page.tables
    assert overall[0] == ["score", "images", "patients"]
    row = found.find("log_loss", level="patients")
    assert overall[6] == [
        "log-loss",
        overall[6][1],
        f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]",
    ]
    row = found.find("sensitivity", EVIL)
    assert of_images[1][2] == f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
    row = found.find("average_precision", EVIL)
    assert further[1][-1] == f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
    row = found.find("sensitivity", EVIL, level="patients")
    assert any(table[1][2].startswith(f"{row.value:.3f} [") for table in others)


def test_words_of_pictures_hold_their_numbers(path_of, case_of):
    page, found = Page(path_of("nasty")), case_of("nasty")
    alts = [e["attributes"]["alt"] for e in page.all("img")]
    matrix = found.confusion_matrix()
    (confusion,) = [alt for alt in alts if alt.startswith("Confusion matrix. Images")]
    assert f"{EVIL} {matrix[0, 0]} of {matrix[0].sum()}" in confusion
    (roc,) = [alt for alt in alts if alt.startswith("ROC curves of images")]
    area = roc_auc_score(found.images.y_true == EVIL, found.images.proba[:, 0])
    assert f"{EVIL}: AUC {area:.3f}" in roc
    worst = found.worst[0]
    assert any(alt.startswith(f"Image {worst.row}, {worst.true}, taken for") for alt in alts)


def test_calibration_error_is_the_gap_of_bins_of_equal_width():
    p = np.array([0.05, 0.15, 0.15, 0.95, 0.75])
    y = np.array([0, 1, 0, 1, 1])
    found = evaluate_predictions(y, np.column_stack([1 - p, p]), [0, 1], n_bootstraps=0)
    expected = (0.05 + abs(0.3 - 1) + 0.05 + 0.25) / 5
    assert pictures.calibration_errors(found.images)[1] == pytest.approx(expected)


def test_a_threshold_in_a_table_takes_all_rows_of_the_threshold():
    p = np.array([0.1, 0.2, 0.123456789, 0.99999, 0.98])
    proba, y = np.column_stack([1 - p, p]), [0, 0, 1, 1, 1]
    found = evaluate_predictions(y, proba, [0, 1], n_bootstraps=0)
    table = words.make_thresholds_table(found, "images")
    assert [row[2] for row in table[1:]] == ["0.8", "0.8", "0.1234", "0.1234"]


@pytest.mark.slow
def test_a_report_says_how_its_samples_were_drawn(tmp_path):
    kept = {"with_images": False, "n": 60}
    for stratify, said, not_said in (
        (False, "shares of the classes vary between the samples", "as many patients of each"),
        (True, "as many patients of each class", "vary between the samples"),
    ):
        found = evaluated(["no", "yes"], stratify=stratify, **kept)
        found.to_html(tmp_path / "report.html")
        items = " ".join(Page(tmp_path / "report.html").texts("li"))
        assert said in items
        assert not_said not in items
        words_of = " ".join(found.summary().split())
        assert ("drawn class by class" in words_of) == stratify


def test_facts_count_images_and_patients_of_each_class(case_of, path_of):
    facts = Page(path_of("nasty")).texts("dd")
    n = len({i for i in case_of("nasty").images.ids if str(i).startswith("<i>0-")})
    assert any(f"{EVIL} 30 images of {n} patients (33.3 %), a, " in text for text in facts)


def test_thresholds_have_intervals_in_tables(case_of):
    found = case_of("nasty")
    table = words.make_thresholds_table(found, "patients")
    (point,) = [p for p in found.operating_points if p[:3] == ("patients", EVIL, 0.95)]
    low, high = point.intervals["specificity"]
    assert table[2][4] == f"{point.specificity:.3f} [{low:.3f}, {high:.3f}]"


def test_a_name_that_begins_with_an_underscore_is_in_the_legend(monkeypatch):
    legends = []
    make = pictures.make_picture

    def keep(draw, *args, **kwargs):
        def drawn(ax):
            draw(ax)
            if ax.get_legend() is not None:
                legends.append([text.get_text().split("\n")[0] for text in ax.get_legend().texts])

        return make(drawn, *args, **kwargs)

    monkeypatch.setattr(pictures, "make_picture", keep)
    found = evaluated(["_no", "yes"], 20, with_images=False, with_patients=False)
    pictures.draw_pictures(found)
    assert legends == [["_no", "yes"]] * 3


def test_only_the_rarest_classes_have_curves(case_of):
    found = case_of("nasty")
    assert pictures.drawn_classes(found.images) == [0, 1, 2]
    many = np.repeat(np.arange(20), np.arange(20))
    found = evaluate_predictions(many, np.full((len(many), 20), 0.05), range(20), n_bootstraps=0)
    assert pictures.drawn_classes(found.images) == list(range(1, 9))


@pytest.mark.parametrize("name", ["jinja2", "matplotlib"])
def test_missing_extras_are_named_before_anything_is_written(name, case_of, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ImportError, match=rf'{name}.*pip install "{name}.*\.\[study\]"'):
        case_of("nasty").to_html(tmp_path / "report.html")
    assert not os.listdir(tmp_path)


def test_bad_paths_are_refused_before_a_picture_is_drawn(case_of, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw_pictures", lambda found: pytest.fail("work was done"))
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "x" / "y", FileNotFoundError)):
        with pytest.raises(error, match="path must be"):
            case_of("nasty").to_html(path)
        with pytest.raises(error, match="path must be"):
            case_of("nasty").to_csv(path)
    assert not os.listdir(tmp_path)


@pytest.mark.slow
def test_global_state_is_as_before_and_pages_are_equal(case_of, path_of, tmp_path):
    before = dict(matplotlib.rcParams)
    case_of("nasty").to_html(tmp_path / "report.html")
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "report.html").read_bytes() == path_of("nasty").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nasty", "one class", "14 classes"])
def test_a_browser_shows_it_and_axe_finds_no_fault(name, visit, path_of):
    check_that_a_browser_shows_it(visit(path_of(name)), least_width=10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nasty", "14 classes"])
def test_narrow_screens_and_paper_cut_nothing(name, visit, path_of):
    check_narrow_screen(visit(path_of(name)))
    check_print(visit(path_of(name)))
