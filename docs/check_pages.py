"""Check the built pages: links, texts of pictures, axe's rules, search and navigation.

``python docs/check_pages.py docs/_build/html`` opens every page in the system's chromium, without a
network. It prints a line for each fault, and ends with status 1 if there is one.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Widths of windows, in pixels: a phone, a laptop and a desk.
WIDTHS = (400, 1300, 1600)
#: Rules of axe: contrast, names of controls, texts of pictures, and so on.
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
#: Pages whose search and navigation are tried, of each kind one. The others have the same frame.
FRAMES = ("index.html", "sampling.html", "api.html", "auto_examples/index.html")
#: Elements of a page that axe leaves out, each with the reason.
LEFT_OUT = {".sk-top-container": "scikit-learn's diagram of an estimator, whose HTML it writes"}
#: Ends of the names of pictures that need no text, each with the reason.
DECORATIVE = {"_thumb.png": "the gallery has the title of the example beside its picture"}


class Page(HTMLParser):
    """The links of a page, the anchors in it, and the pictures in its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors = {"", "top"}
        self.pictures: list[tuple[str, str | None]] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name in ("href", "src"):
            if value := given.get(name):
                self.links.add(value)
        if anchor := given.get("id") or (tag == "a" and given.get("name")):
            self.anchors.add(str(anchor))
        if tag == "img":
            self.pictures.append((given.get("src") or "", given.get("alt")))


def read_pages(folder: Path) -> dict[Path, Page]:
    """Read the pages of a folder. Static files of the theme are not pages."""
    paths = sorted(path for path in folder.rglob("*.html") if "_static" not in path.parts)
    return {path: Page(path) for path in paths}


def faults_of_links(pages: dict[Path, Page]) -> Iterator[tuple[Path, str]]:
    """Follow every link that stays among the pages, and look at the form of the others."""
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme in ("data", "mailto"):
                continue
            if parts.scheme or parts.netloc:
                if fault := fault_of_address(link):
                    yield path, f"links to {link}, {fault}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield path, f"links to {link}, which does not exist"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield path, f"links to {link}, which has no such place"


def fault_of_address(link: str) -> str:
    """Return what is wrong with the form of an address on the web, or nothing."""
    parts = urlsplit(link)
    if parts.scheme != "https":
        return "which is not https"
    if not re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}(:\d+)?", parts.netloc, re.IGNORECASE):
        return "whose host is no name of a host"
    if re.search(r"[\s`<>\"']|[.,;:]$", link) or link.count("(") != link.count(")"):
        return "which holds or ends with a sign of the text around it"
    return ""


def faults_of_pictures(pages: dict[Path, Page]) -> Iterator[tuple[Path, str]]:
    """Find pictures without a text, or with the name of a file or less than two words as text."""
    for path, page in pages.items():
        for source, text in page.pictures:
            if text == "" and source.endswith(tuple(DECORATIVE)):
                continue
            if text is None or len(text.split()) < 2 or re.search(r"\.(png|jpe?g|svg)\b|_", text):
                yield path, f"shows {Path(source).name} with the text {text!r}"


def faults_in_browser(page, paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """Open pages: axe's rules in both themes, requests, errors of scripts, width of the page."""
    seen: list[str] = []
    page.on("pageerror", lambda error: seen.append(f"raises {error}"))
    page.on(
        "request",
        lambda request: (
            request.url.startswith(("file:", "data:")) or seen.append(f"loads {request.url}")
        ),
    )
    for path in paths:
        page.set_viewport_size({"width": WIDTHS[1], "height": 900})
        page.goto(path.as_uri(), wait_until="load")
        # The colours alone differ between the themes.
        for theme, rules in (("light", RULES), ("dark", ("color-contrast",))):
            page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            for rule, nodes in violations(page, rules):
                yield path, f"breaks {rule} in the {theme} theme: {nodes}"
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            if extra := page.evaluate(_OVERFLOW):
                yield path, f"is {extra} pixels wider than a window of {width}"
        yield from ((path, fault) for fault in seen)
        seen.clear()


_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_AXE = """([context, rules]) => axe
    .run(context, {runOnly: rules, resultTypes: ["violations"]})
    .then(found => found.violations.map(one => [one.id, one.nodes.map(node => node.html)]))"""


def violations(page, rules: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the rules that a page breaks, with up to three of the elements."""
    found = page.evaluate(_AXE, [{"exclude": [[selector] for selector in LEFT_OUT]}, list(rules)])
    return [
        (rule, " and ".join(html[:120] for html in nodes[:3]) + f" ({len(nodes)} in all)")
        for rule, nodes in found
    ]


def faults_of_frame(page, path: Path) -> Iterator[tuple[Path, str]]:
    """Try search and navigation of a page, as a reader does, at each width."""
    import playwright.sync_api

    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(path.as_uri(), wait_until="load")
        buttons = page.locator("button.search-button__button:visible")
        if not buttons.count():
            yield path, f"shows no search button at {width} pixels"
            continue
        buttons.first.click()
        field = page.locator("#pst-search-dialog input[type=search]")
        box = field.bounding_box() if field.is_visible() else None
        if not box or box["x"] < 0 or box["x"] + box["width"] > width:
            yield path, f"opens no whole search field at {width} pixels"
            continue
        field.fill("mcc")
        field.press("Enter")
        try:
            page.wait_for_selector("#search-results li a")
        except playwright.sync_api.TimeoutError:
            yield path, f"finds nothing for mcc at {width} pixels"
        page.goto(path.as_uri(), wait_until="load")
        links = "nav a.nav-link:visible, dialog[open] a:visible"
        if page.locator("button.primary-toggle:visible").count():
            page.locator("button.primary-toggle").first.click()
        if page.locator(links).count() < 5:
            yield path, f"shows no navigation at {width} pixels"


def check(folder: Path) -> list[str]:
    """Return a line for each fault of the pages of a folder."""
    from axe_core_python.base import AXE_SCRIPT
    from playwright.sync_api import sync_playwright

    pages = read_pages(folder)
    faults = [*faults_of_links(pages), *faults_of_pictures(pages)]
    with sync_playwright() as session:
        chromium = session.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        context = chromium.new_context(offline=True, reduced_motion="reduce")
        context.add_init_script(AXE_SCRIPT)
        faults += faults_in_browser(context.new_page(), list(pages))
        for name in FRAMES:
            faults += faults_of_frame(context.new_page(), folder / name)
        chromium.close()
    return [f"{path.relative_to(folder)} {fault}" for path, fault in faults]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder that Sphinx wrote")
    folder = parser.parse_args().folder.resolve()
    if not (folder / "index.html").is_file():
        parser.error(f"{folder} must hold the built pages")
    faults = check(folder)
    print(*faults, sep="\n")
    print(f"{len(read_pages(folder))} pages, {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
