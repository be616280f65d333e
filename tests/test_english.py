"""The English of the project: patterns that English avoids stay rare.

``python -m tests.test_english [ROOT]`` prints the counts per 1,000 words.
"""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

PATTERNS = {
    "that of, those of": r"\b(that|those)\s+of\b",
    "of your own": r"\b(of\s+(one's|your|their|its|his|her|our|my)\s+own|one's\s+own)\b",
    "what, who(ever) as noun": r"\b(what|whatever|whoever|whichever)\b"
    r"|((^|[.;:(]\s+)|\b(and|so|of|to|for|from|by|with|that|not|as|than|on)\s+)who\b",
    "odd forms": r"(?<!\bthere\s)\b(is|are|was|were)\s+(no(?!\s+longer)|(?-i:none))\b"
    r"|\b(has|have|had)\s+to\s+be\b|\b(is|are|was|were)\s+to\s+be\b",
    # Errors say "X must be Y; got Z."
    "semicolons": r";(?!\s+got\b)",
}
# Per 1,000 words.
CEILINGS = {name: 3.0 if name == "semicolons" else 0.3 for name in PATTERNS}
KINDS = ("documentation", "docstrings", "comments", "messages")

_DIRECTIVE = re.compile(r"\s*\.\. ([\w:.-]+)::")
_WITH_PROSE = {"list-table", "note", "warning", "container", "figure"}
_TABLE_BORDER = re.compile(r"\s*=+( +=+)+\s*$")
_INLINE = [
    (re.compile(r"``.*?``|:math:`[^`]*`|(?<!`)`[^`\s<>]+`(?![`_])|\$[^$]+\$"), "code"),
    (re.compile(r":[\w:]+:`~?([^`<]*?)\s*(<[^`]*>)?`"), r"\1"),
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"`([^`<]*)<[^`]*>`_+"), r"\1"),
]


class Line(NamedTuple):
    """A line of prose: the file and line number that it comes from, and its text."""

    file: str
    number: int
    text: str


class Finding(NamedTuple):
    """A place that matches a pattern."""

    line: Line
    phrase: str

    def __str__(self):
        return f"{self.line.file}:{self.line.number}: {self.phrase}"


def prose(file, text, first=1):
    """Reduce reStructuredText, Markdown or a docstring to the lines that are prose."""
    lines, skipped_from, in_table, in_fence, in_doctest = [], None, False, False, False
    source = text.splitlines()
    for i, raw in enumerate(source):
        indent = len(raw) - len(raw.lstrip())
        if raw.lstrip().startswith("```"):
            in_fence = not in_fence
            continue
        if skipped_from is not None and raw.strip() and indent <= skipped_from:
            skipped_from = None
        in_doctest = bool(raw.strip()) and (in_doctest or raw.lstrip().startswith(">>>"))
        if _TABLE_BORDER.match(raw):
            ends = in_table and not "".join(source[i + 1 : i + 2]).strip()
            in_table = not ends
            continue
        if in_fence or in_table or in_doctest or skipped_from is not None:
            continue
        directive = _DIRECTIVE.match(raw)
        if directive or raw.rstrip().endswith("::") or raw.lstrip().startswith(".. _"):
            if not directive or directive[1] not in _WITH_PROSE:
                skipped_from = indent
            if directive or raw.lstrip().startswith(".. _"):
                continue
        # Options of directives, underlines, rows of Markdown tables, headers of parameters.
        if re.match(r"\s*(:[\w-]+:(\s|$)|\||<!--|[-=~^*]{3,}\s*$|[\w*., ]+ : )", raw):
            continue
        # Cells of tables with a word or two, such as "pass".
        if re.match(r"\s*(\* )?- \S+(\s\S+)?$", raw):
            continue
        lines.append(Line(file, first + i, _without_code(raw)))
    return lines


def _without_code(text):
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return text


def count_words(lines):
    """Count the words of lines."""
    return sum(len(re.findall(r"[A-Za-z][\w'-]*", line.text)) for line in lines)


def find(lines, name):
    """Find a pattern. Questions may begin with what and who."""
    text, starts = "", []
    for line in lines:
        starts.append(len(text))
        text += line.text.strip() + "\n"
    findings = []
    for match in re.finditer(PATTERNS[name], text, re.IGNORECASE | re.MULTILINE):
        if name.startswith("what") and re.match(r"[^.!?:]*\?", text[match.start() + 1 :]):
            continue
        index = max(i for i, start in enumerate(starts) if start <= match.end() - 1)
        phrase = text[max(0, match.start() - 30) : match.end() + 30]
        findings.append(Finding(lines[index], " ".join(phrase.split())))
    return findings


def _relative(path, root):
    return str(path.relative_to(root))


def documentation(root):
    """Collect the prose of README, documentation and examples."""
    lines = []
    pages = [*(root / "docs").glob("*.rst"), *(root / "docs" / "examples").glob("*.rst")]
    for path in [root / "README.md", *sorted(pages)]:
        lines += prose(_relative(path, root), path.read_text())
    for path in sorted((root / "docs" / "examples").glob("*.py")):
        lines += _docstrings_of(path, root)
        lines += _comments_of(path, root)
    return lines


def _docstrings_of(path, root):
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            text = node.body[0].value
            lines += prose(_relative(path, root), text.value, text.lineno)
    return lines


def _comments_of(path, root):
    name, source = _relative(path, root), path.read_text()
    text = {
        token.start[0]: token.string.removeprefix("#").removeprefix(" ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not re.match(r"# (%%|noqa|type:)", token.string)
    }
    # Comments that follow each other are one text, in which literal blocks are skipped.
    n_lines = len(source.splitlines())
    return prose(name, "\n".join(text.get(i, "") for i in range(1, n_lines + 1)))


def _messages_of(path, root):
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        Line(_relative(path, root), node.lineno, _without_code(node.value))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
        and len(node.value.split()) > 2
    ]


def collect(root):
    """Collect the prose of a tree, by kind."""
    files = sorted((root / "skimbal").rglob("*.py"))
    return {
        "documentation": documentation(root),
        "docstrings": [line for path in files for line in _docstrings_of(path, root)],
        "comments": [line for path in files for line in _comments_of(path, root)],
        "messages": [line for path in files for line in _messages_of(path, root)],
    }


@pytest.fixture(scope="module")
def texts():
    return collect(ROOT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_rare(texts, kind, name):
    findings, n_words = find(texts[kind], name), count_words(texts[kind])
    assert n_words > 500
    rate = 1000 * len(findings) / n_words
    listed = "\n".join(map(str, findings))
    assert rate <= CEILINGS[name], f"{rate:.1f} per 1,000 words:\n{listed}"


@pytest.mark.parametrize(
    ("name", "caught"),
    [
        ("that of, those of", "The gradient is that of one process."),
        ("that of, those of", "The losses are those\nof the paper."),
        ("of your own", "This finds the loss for data of your own."),
        ("of your own", "It draws from a generator of its own."),
        ("of your own", "A loss of one's own."),
        ("what, who(ever) as noun", "Where the metric is what counts, use it."),
        ("what, who(ever) as noun", "Whoever reads the output has seen enough."),
        ("what, who(ever) as noun", "Who reads the output has seen enough."),
        ("what, who(ever) as noun", "Text is not a number, so who accepts it only selects."),
        ("odd forms", "If the study is none."),
        ("odd forms", "If it is no integer."),
        ("odd forms", "The denominator has to be looked after."),
        ("odd forms", "The output is to go nowhere, the rest is\nto be kept."),
        ("semicolons", "The first is fast; the second is exact."),
    ],
)
def test_checker_catches(name, caught):
    (finding,) = find(prose("page.rst", f"A title\n=======\n\n{caught}\n"), name)
    assert str(finding).startswith(f"page.rst:{4 + caught.count(chr(10))}: ")


@pytest.mark.parametrize(
    "good",
    [
        "What is a batch? Who reads it?",
        "The users who have images. A patient, who has two of them.",
        "The rate is no longer constant, there is no gap, and your own data must be images.",
        "A line ``with; code of your own`` and :math:`a; b`.",
        "Code::\n\n    what; is = that of",
        ".. code-block:: python\n\n    what; is = that of",
        "===  ====\nof   what\n===  ====\na;   b\n===  ====\n",
        "```python\nwhat; is\n```",
        "| a; b | what |",
        ">>> what; is\nthat of",
    ],
)
def test_checker_leaves_alone(good):
    lines = prose("page.rst", good)
    assert not [finding for name in PATTERNS for finding in find(lines, name)]


def main(root):
    """Print the counts of a tree."""
    texts = collect(root)
    print(f"{'per 1,000 words':26}" + "".join(f"{kind:>15}" for kind in texts))
    counts = {kind: count_words(lines) for kind, lines in texts.items()}
    print(f"{'words':26}" + "".join(f"{count:15,}" for count in counts.values()))
    for name in PATTERNS:
        rates = [1000 * len(find(lines, name)) / counts[kind] for kind, lines in texts.items()]
        print(f"{name:26}" + "".join(f"{rate:15.1f}" for rate in rates))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT).resolve())
