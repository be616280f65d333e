import functools
import itertools
import os
import random
import re
import sys

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from sklearn.utils import check_random_state

import skimbal
from skimbal import CNN2DClassifier
from skimbal.reports import page as pages
from skimbal.study import report
from skimbal.study.code import write_code
from skimbal.study.report import write_report
from tests.reports.pages import (
    SVG,
    Page,
    check_narrow_screen,
    check_print,
    check_that_a_browser_shows_it,
    check_that_nothing_comes_from_elsewhere,
)
from tests.study.data import LONG, reported

EVIL = "<script>alert('x')</script>"
STUDIES = {
    "usual": reported,
    "one fit each": lambda: reported(n_splits=1),
    "one configuration": lambda: reported(losses=["ce"], samplers=["uniform"], n_splits=1),
    "fixed test set": lambda: reported(has_test_set=True, scoring="log_loss", n_done=4),
    "many classes": lambda: reported(
        classes=[LONG, EVIL, "$\\frac$", *(f"organ {k}" for k in range(8))],
        losses=["ce", "LossMix(ce=1, f1=0.5, focal_gamma=3, mcc=0.25)", "l" * 80],
        samplers=["uniform", "RandomOverSampler(sampling_strategy=0.5)", "s" * 40],
    ),
}
#: One property at a time of those that the fixed test set above has together.
MORE_STUDIES = {
    "complete, fixed test set": lambda: reported(has_test_set=True),
    "not complete": lambda: reported(n_done=4),
    "less is better": lambda: reported(scoring="log_loss"),
}
ALL_STUDIES = [*STUDIES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_STUDIES)]


@pytest.fixture(scope="module")
def path_of(tmp_path_factory):
    """Write the report of each of the studies once."""
    folder = tmp_path_factory.mktemp("reports")

    @functools.cache
    def path_of(name):
        (STUDIES | MORE_STUDIES)[name]().to_html(folder / f"{name}.html")
        return folder / f"{name}.html"

    return path_of


@pytest.fixture(scope="module")
def page_of(path_of):
    """Read the report of each of the studies once."""
    return functools.cache(lambda name: Page(path_of(name)))


@pytest.fixture(scope="module")
def real_page(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "report.html"
    study.to_html(path)
    return Page(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_STUDIES)
def test_every_study_makes_a_well_formed_page(name, page_of):
    page = page_of(name)
    assert page.declaration == "DOCTYPE html"
    assert page.all("html")[0]["attributes"]["lang"] == "en"
    assert len(page.all("title")) == len(page.all("h1")) == 1
    assert page.texts("title") == page.texts("h1")
    assert [e["in"] for e in page.all("header", "main", "footer")] == [["html", "body"]] * 3
    levels = [int(e["tag"][1]) for e in page.all("h1", "h2", "h3", "h4")]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    names = [e["attributes"].get("id") for e in page.elements if e["attributes"].get("id")]
    assert len(set(names)) == len(names)
    assert [e["attributes"]["href"] for e in page.all("a")] == [f"#{name}" for name in names]
    n_tables = len(page.all("table"))
    assert len(page.all("caption")) == len(page.all("thead")) == n_tables >= 4
    for cell in page.all("th"):
        assert cell["attributes"]["scope"] == ("col" if "thead" in cell["in"] else "row")
        assert cell["text"].strip()
    assert all(cell["text"].strip() for cell in page.all("td"))
    pictures = page.all("img")
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(pictures)
    assert len(pictures) == (3 if name == "one configuration" else 4)
    for picture in pictures:
        assert "figure" in picture["in"]
        assert len(picture["attributes"]["alt"]) > 40
        assert re.search(r"\d", picture["attributes"]["alt"])
    regions = [e["attributes"] for e in page.all("div") if "role" in e["attributes"]]
    labels = [region["aria-label"] for region in regions]
    assert len(set(labels)) == len(labels) == n_tables + len(pictures) + 1
    assert all(region["tabindex"] == "0" for region in regions)


@pytest.mark.parametrize("name", ALL_STUDIES)
def test_nothing_comes_from_elsewhere(name, page_of):
    page = page_of(name)
    check_that_nothing_comes_from_elsewhere(page)
    assert all(e["attributes"]["src"].startswith(SVG) for e in page.all("img"))


def test_conclusions_come_first_and_are_those_of_the_study(study, real_page):
    page = real_page
    assert page.texts("h2") == [
        "Conclusions",
        "Data",
        "Balanced accuracy",
        "Other scores",
        "Best configuration",
        "How it was computed",
        "Train it and confirm it",
    ]
    sentences = study.conclusions()
    assert "luck" in sentences[-1]
    assert page.texts("li")[7 : 7 + len(sentences)] == sentences  # after the contents
    assert page.texts("p")[0] == study.describe()


def test_page_shows_the_code_of_the_best_configuration(study, real_page):
    (text,) = (e["text"] for e in real_page.all("code"))
    assert text == write_code(study, study.best.loss, study.best.sampler)


def test_page_ends_with_the_commands_and_the_code(study, tmp_path):
    commands = [f"skimbal fit '{EVIL}' --loss ce", "skimbal evaluate model.skimbal"]
    study.to_html(tmp_path / "report.html", commands=commands)
    page = Page(tmp_path / "report.html")
    shown, code = (element["text"] for element in page.all("code"))
    assert shown.splitlines() == commands
    assert code == study.code(study.best.loss, study.best.sampler)
    assert page.texts("h2")[-1] == "Train it and confirm it"
    assert page.texts("h3")[-2:] == ["Commands", "The same in Python"]


def test_tables_hold_the_numbers_of_the_study(study, real_page):
    data, ranking, others, classes = real_page.tables
    assert data == study.data.table()

    def plain(rows):
        return [[cell.removesuffix(" best mean") for cell in row] for row in rows]

    # Two fits have neither intervals nor p.
    shown = [column for column in zip(*study.table(), strict=True) if any(column[1:])]
    assert plain(ranking) == [[c or "–" for c in row] for row in zip(*shown, strict=True)]
    assert plain(others) == study.scores_table(list(study.score_names[1:7]))
    assert others[0][2:] == ["macro F1", "MCC", "AUC", "AP rarest", "log-loss", "Brier"]
    names = [f"f1[{name}]" for name in ("eight", "nine", "other")]
    assert classes[0] == ["loss", "sampler", "eight", "nine", "other"]
    assert plain(classes)[1:] == study.scores_table(names)[1:]
    best = study.best
    for rows in (ranking, others, classes):
        marked = [row[:2] for row in rows if row[0].endswith("best mean")]
        assert marked == [[f"{best.loss} best mean", best.sampler]]


def test_the_words_of_pictures_hold_their_numbers(page_of):
    study = STUDIES["usual"]()
    page = page_of("usual")
    scores, gains, classes, confusion = (e["attributes"]["alt"] for e in page.all("img"))
    for e in study.estimates():
        assert f"{e.loss} {e.mean:.3f} [{e.low:.3f}, {e.high:.3f}]" in scores
    for d in study.differences():
        assert f"{d.sampler} sampling {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" in gains
    best = study.best
    for name in study.class_names:
        (row,) = [
            e
            for e in study.estimates(f"f1[{name}]")
            if (e.loss, e.sampler) == (best.loss, best.sampler)
        ]
        assert f"{name} {row.mean:.3f} [" in classes
    matrix = study.confusion_matrix(best.loss, best.sampler)
    for k, name in enumerate(study.class_names):
        assert f"{name} {matrix[k, k]} of {matrix[k].sum()}" in confusion


def test_facts_to_repeat_the_study(page_of):
    page = page_of("usual")
    facts = dict(zip(page.texts("dt"), page.texts("dd"), strict=True))
    assert facts["Choice of the test rows"] == "stratified group 3-fold cross-validation"
    assert facts["Seed"] == "7"
    assert facts["Fits"] == "12 of 12, 3 for each configuration"
    assert facts["Training rows of a fit"] == "120"
    assert facts["Test rows of a fit"] == "60 to 62"
    assert facts["Epochs of a fit"] == "3"
    assert facts["Gradient steps of a fit"] == "30"
    assert facts["Time of the fits"] == "20 min, added up"
    assert f"skimbal {skimbal.__version__}, torch {torch.__version__}" in facts["Versions"]
    (footer,) = page.texts("footer")
    assert re.search(r" on \d{4}-\d\d-\d\d, Python 3\.\d+\.\d+, \w", footer)


def test_notes_suit_the_study(page_of):
    (cv,) = page_of("usual").texts("main")
    assert "n₂/n₁" in cv
    assert "adjusted for 2 comparisons" in cv
    assert "Scandinavian" in cv
    (fixed,) = page_of("fixed test set").texts("main")
    assert "n₂/n₁" not in fixed
    assert "variance s² over seeds" in fixed
    (single,) = page_of("one fit each").texts("main")
    assert "±" not in single
    assert "There is one fit of each configuration" in single
    assert "Student" not in single


def test_many_classes_are_split_into_tables_of_about_equal_width(page_of):
    study = STUDIES["many classes"]()
    heads = [table[0] for table in page_of("many classes").tables[3:]]
    assert [len(head) for head in heads] == [2 + 6, 2 + 5]
    assert heads[0][2:] + heads[1][2:] == study.class_names


@pytest.mark.parametrize(
    "samplers",
    [["uniform"], pytest.param(["uniform", "balanced"], marks=pytest.mark.slow)],
    ids=len,
)
def test_names_are_text_and_nothing_else(samplers, tmp_path):
    attack = '"><img src=x onerror=alert(1)>'
    study = reported(
        classes=[EVIL, "{{ 7 * 7 }}", "a&b"],
        losses=["ce", attack],
        samplers=samplers,
        estimator=CNN2DClassifier(module="</code></pre><script>alert(1)</script>"),
    )
    study.splitting = "<b>bold</b>"
    study.to_html(tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert not page.all("script", "b")
    assert len(page.all("img")) == 4
    assert page.tables[3][0][2:] == sorted([EVIL, "{{ 7 * 7 }}", "a&b"])
    assert attack in page.tables[1][2][0]
    assert "'</code></pre><script>alert(1)</script>'" in page.texts("code")[0]
    assert f"{EVIL} " in page.all("img")[3]["attributes"]["alt"]
    assert "<script" not in page.source
    assert "&lt;b&gt;bold" in page.source


def test_the_same_study_gives_the_same_bytes_but_for_the_date(
    study, real_page, tmp_path, monkeypatch
):
    class Later:
        @staticmethod
        def today():
            return report_date.fromisoformat("2031-02-03")

    report_date = pages.date
    second = tmp_path / "second.html"
    monkeypatch.setattr(pages, "date", Later)
    with plt.style.context("dark_background"):
        study.to_html(second)
    today = re.search(r'datetime="([-\d]+)"', real_page.source)[1]
    assert today != "2031-02-03"
    assert real_page.source.replace(today, "2031-02-03") == second.read_text("utf-8")


@pytest.mark.parametrize(
    "name", ["one configuration", pytest.param("usual", marks=pytest.mark.slow)]
)
def test_global_state_is_as_before(name, tmp_path):
    others, figure = plt.get_fignums(), plt.figure()

    def state():
        # numpy's is a tuple that holds an array, and does not compare.
        randomness = random.getstate(), repr(check_random_state(None).get_state(legacy=False))
        return dict(matplotlib.rcParams), *randomness, torch.get_rng_state().tolist()

    before = state()
    STUDIES[name]().to_html(tmp_path / "report.html")
    assert state() == before
    assert plt.get_fignums() == [*others, figure.number]
    assert plt.gcf() is figure
    plt.close(figure)


@pytest.mark.parametrize("name", ["jinja2", "matplotlib"])
def test_missing_packages_are_named_before_anything_is_written(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'{name}, which is missing. Run pip install "{name}'):
        write_report(reported(), tmp_path / "report.html")
    assert not os.listdir(tmp_path)


def test_a_study_without_fits_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no fit of this study is finished"):
        write_report(reported(n_done=0), tmp_path / "report.html")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("", IsADirectoryError, "a file; got the folder"),
        ("missing/report.html", FileNotFoundError, "there is no folder '.*missing'"),
        ("file/report.html", FileNotFoundError, "there is no folder '.*file'"),
        ("r" * 300, OSError, r"File name too long"),
    ],
)
def test_bad_paths_are_refused_before_a_picture_is_drawn(name, error, text, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(report, "draw_pictures", lambda study: pytest.fail("work was done"))
    with pytest.raises(error, match=f"path must be .*{text}"):
        write_report(reported(), str(tmp_path / name))
    assert os.listdir(tmp_path) == ["file"]


def test_an_unwritable_folder_is_refused(tmp_path, monkeypatch):
    def refuse(path, *args):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(report, "draw_pictures", lambda study: pytest.fail("work was done"))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match=r"path must be .*got '.*Permission denied"):
        write_report(reported(), tmp_path / "report.html")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_old_report_survives_a_failed_one(error, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(study):
        raise error("in the middle")

    monkeypatch.setattr(report, "draw_pictures", fail)
    with pytest.raises(error, match="in the middle"):
        write_report(reported(), path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_an_old_report_is_replaced_where_a_link_points_to(tmp_path):
    (tmp_path / "old.html").write_text("old")
    link = tmp_path / "link.html"
    link.symlink_to("old.html")
    write_report(STUDIES["one configuration"](), link)
    assert link.is_symlink()
    assert "<!DOCTYPE html>" in (tmp_path / "old.html").read_text("utf-8")
    assert sorted(os.listdir(tmp_path)) == ["link.html", "old.html"]
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "old.html").stat().st_mode == plain.stat().st_mode


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "usual",
        "one fit each",
        "one configuration",
        "many classes",
    ],
)
def test_a_browser_shows_it_and_axe_finds_no_fault(name, visit, path_of):
    check_that_a_browser_shows_it(visit(path_of(name)))


@pytest.mark.parametrize("name", [pytest.param("usual", marks=pytest.mark.slow), "many classes"])
def test_narrow_screens_scroll_tables_and_not_the_page(name, visit, path_of):
    check_narrow_screen(visit(path_of(name)))


@pytest.mark.parametrize("name", [pytest.param("usual", marks=pytest.mark.slow), "many classes"])
def test_print_cuts_nothing(name, visit, path_of):
    check_print(visit(path_of(name)))


def test_names_do_not_run_as_scripts(visit, path_of):
    page = visit(path_of("many classes"))
    assert page.evaluate("document.scripts.length") == 0
    assert page.get_by_role("columnheader", name=EVIL).count() == 1
