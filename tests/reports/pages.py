"""Pages as their parts, and checks that every report passes."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "link", "input"}
SVG, PNG = "data:image/svg+xml;base64,", "data:image/png;base64,"


class Page(HTMLParser):
    """The elements of a page as (tag, attributes, text, tags that it is in)."""

    def __init__(self, path):
        super().__init__()
        self.elements, self._open, self.declaration = [], [], None
        self.source = Path(path).read_text("utf-8")
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_decl(self, declaration):
        self.declaration = declaration

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "in": [e["tag"] for e in self._open], "text": ""}
        element["attributes"] = dict(attributes)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, text):
        for element in self._open:
            element["text"] += text

    def all(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]

    def texts(self, *tags):
        return [" ".join(element["text"].split()) for element in self.all(*tags)]

    @property
    def tables(self):
        """Rows of the text of cells of each table."""
        tables = []
        for element in self.elements:
            if element["tag"] == "table":
                tables.append([])
            elif element["tag"] == "tr":
                tables[-1].append([])
            elif element["tag"] in ("th", "td"):
                tables[-1][-1].append(" ".join(element["text"].split()))
        return tables


def check_that_nothing_comes_from_elsewhere(page):
    """Check the elements, addresses and pictures of a page."""
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section"}
    allowed |= {"footer", "h1", "h2", "h3", "p", "ul", "li", "dl", "dt", "dd", "div", "a", "span"}
    allowed |= {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "figure", "img"}
    allowed |= {"figcaption", "pre", "code", "time", "i"}
    assert {element["tag"] for element in page.elements} <= allowed
    for element in page.elements:
        for key, value in element["attributes"].items():
            assert not key.startswith("on")
            assert key not in ("srcset", "action", "data", "background", "poster")
            if key in ("src", "href"):
                assert value.startswith((SVG, PNG) if key == "src" else "#")
    (style,) = page.texts("style")
    assert "@import" not in style
    assert "url(" not in style
    policy = [e["attributes"] for e in page.all("meta") if "http-equiv" in e["attributes"]]
    assert policy[0]["content"].startswith("default-src 'none'; img-src data:;")
    drawn = [e["attributes"]["src"] for e in page.all("img")]
    for source in drawn:
        if source.startswith(PNG):
            continue
        svg = base64.b64decode(source.partition(",")[2]).decode("utf-8")
        assert "<script" not in svg
        assert "@import" not in svg
        targets = re.findall(r'href="([^"]*)"', svg)
        assert targets
        assert all(target.startswith(("#", "data:image/png;base64,")) for target in targets)
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", svg))


def check_that_a_browser_shows_it(page, least_width=301):
    """Check that a browser draws all pictures, and that axe finds no fault."""
    from axe_core_python.sync_playwright import Axe

    sizes = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
    assert sizes
    assert all(complete and width >= least_width for complete, width in sizes)
    violations = Axe().run(page)["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations] == []


def overflow(page):
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def check_narrow_screen(page):
    """Check that tables scroll, and not the page."""
    assert overflow(page) <= 0
    page.set_viewport_size({"width": 380, "height": 800})
    assert overflow(page) <= 0
    hidden = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
    )
    assert max(hidden) > 0


def check_print(page):
    """Check that nothing is cut on paper, and no short word of a row's head is broken."""
    # The width of A4 between margins of 15 mm, at 96 pixels for an inch.
    page.set_viewport_size({"width": 680, "height": 1009})
    page.emulate_media(media="print")
    assert overflow(page) <= 0
    cut = page.evaluate(
        """[...document.querySelectorAll('table, th, td, img, pre, p, li, dd')].filter(
            e => e.getBoundingClientRect().right > innerWidth + 1
                 || e.scrollWidth > e.clientWidth + 1
        ).map(e => e.outerHTML)"""
    )
    assert cut == []
    broken = page.evaluate(
        """[...document.querySelectorAll('tbody th:first-child')].flatMap(cell => {
            const text = cell.firstChild, range = document.createRange()
            return [...text.data.matchAll(/\\S+/g)].filter(word => {
                range.setStart(text, word.index)
                range.setEnd(text, word.index + word[0].length)
                return word[0].length <= 10 && range.getClientRects().length > 1
            }).map(word => word[0])
        })"""
    )
    assert broken == []
    n_pages = len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))
    assert n_pages > 1
