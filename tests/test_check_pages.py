"""The check of the documentation's pages finds faults that are put in."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "docs" / "check_pages.py"
WORDS = " ".join(["word"] * 16)


@pytest.fixture(scope="module")
def check_pages():
    spec = importlib.util.spec_from_file_location("check_pages", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def write(tmp_path):
    def write(body, name="page.html", style=""):
        head = f"<title>A page</title><style>{style}</style>"
        page = f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body>'
        (tmp_path / name).write_text(f"{page}</html>")
        return tmp_path / name

    return write


def test_right_links_are_let_pass(check_pages, write, tmp_path):
    write('<h1 id="top-of-it">A</h1><a href="#top-of-it">a</a><a href="other.html#b">b</a>')
    write('<p id="b"><a href="https://doi.org/10.1038/s41597-022-01721-8">c</a>', "other.html")
    assert list(check_pages.faults_of_links(check_pages.read_pages(tmp_path))) == []


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("gone.html", "does not exist"),
        ("#gone", "no such place"),
        ("page.html#gone", "no such place"),
        ("picture.png", "does not exist"),
        ("http://skorch.readthedocs.io", "not https"),
        ("https://localhost/a", "no name of a host"),
        ("https://doi.org/10.1.", "sign of the text"),
        ("https://en.wikipedia.org/wiki/A_(b", "sign of the text"),
        ("file:///page.html", "not https"),
    ],
)
def test_dead_links_are_found(check_pages, write, tmp_path, link, words):
    path = write(f'<a href="{link}">a</a>')
    ((place, fault),) = check_pages.faults_of_links(check_pages.read_pages(tmp_path))
    assert place == path
    assert link in fault
    assert words in fault


@pytest.mark.parametrize(
    ("text", "is_fault"),
    [
        ('alt="Test AUC of two losses"', False),
        ("", True),
        ('alt=""', True),
        ('alt="plot_01.png"', True),
        ('alt="scores"', True),
    ],
)
def test_pictures_have_texts(check_pages, write, tmp_path, text, is_fault):
    write(f'<img src="a.png" {text}>')
    faults = list(check_pages.faults_of_pictures(check_pages.read_pages(tmp_path)))
    assert bool(faults) == is_fault


def test_thumbnails_of_the_gallery_are_beside_their_titles(check_pages, write, tmp_path):
    write('<img src="a_thumb.png" alt="">')
    assert list(check_pages.faults_of_pictures(check_pages.read_pages(tmp_path))) == []


@pytest.fixture
def page(browser):
    from axe_core_python.base import AXE_SCRIPT

    context = browser.new_context(offline=True)
    context.add_init_script(AXE_SCRIPT)
    yield context.new_page()
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "style", "words"),
    [
        ("<h1>A</h1>", "", None),
        ('<img src="data:image/png;base64,">', "", "breaks image-alt in the light theme"),
        ("<p>pale</p>", "[data-theme=light] p {color: #aaa}", "breaks color-contrast"),
        (
            "<p>dark</p>",
            "[data-theme=dark] body {background: #000} p {color: #333}",
            "breaks color-contrast in the dark theme",
        ),
        ("<input>", "", "breaks label"),
        (f"<pre>{WORDS}</pre>", "", "pixels wider than a window of 400"),
        ('<script>throw "a fault"</script>', "", "raises a fault"),
        ('<script src="https://example.org/a.js"></script>', "", "loads https://example.org"),
    ],
)
def test_faults_in_a_browser(check_pages, write, page, body, style, words):
    path = write(body, style=style)
    faults = [fault for _, fault in check_pages.faults_in_browser(page, [path])]
    assert len(faults) == (words is not None), faults
    assert not faults or words in faults[0]


@pytest.mark.slow
def test_a_page_without_search_is_found(check_pages, write, page):
    faults = [fault for _, fault in check_pages.faults_of_frame(page, write("<h1>A</h1>"))]
    assert faults == [f"shows no search button at {width} pixels" for width in (400, 1300, 1600)]


def test_a_folder_without_pages_is_refused(check_pages, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check_pages.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        check_pages.main()
    assert "must hold the built pages" in capsys.readouterr().err
