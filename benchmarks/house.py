"""The house in numbers: sizes, types, parameters, patterns of English, seconds of the tests.

``python -m benchmarks.house [FOLDER]`` prints them for a package, the package of this checkout by
default. ``--tests`` also runs its default tests. The tests take the same counts.
"""

import argparse
import ast
import io
import statistics
import subprocess
import sys
import time
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from tests import test_english

PACKAGE = Path(__file__).parents[1] / "skimbal"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A file, class or function with its size in lines of code."""

    place: str
    n_lines: int


class Source:
    """A file of the package."""

    def __init__(self, path: Path, package: Path) -> None:
        self.name = path.relative_to(package).as_posix()
        text = path.read_text("utf-8")
        self.tree = ast.parse(text)
        self.n_lines = text.count("\n")
        #: Numbers of the lines that hold code: no blank lines, comments and docstrings.
        self.code_lines = _code_lines(text) - _docstring_lines(self.tree)

    def definitions(self, kind: type | tuple[type, ...]) -> Iterator[tuple[str, ast.AST]]:
        """Yield the definitions of a kind with their qualified names."""

        def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.AST]]:
            for child in ast.iter_child_nodes(node):
                name = getattr(child, "name", None)
                is_scope = isinstance(child, ast.ClassDef | Function)
                inner = f"{prefix}.{name}" if is_scope and prefix else name or prefix
                if isinstance(child, kind):
                    yield inner, child
                yield from walk(child, inner if is_scope else prefix)

        yield from walk(self.tree, "")

    def size(self, first: int, last: int) -> int:
        """Count the lines of code between two lines."""
        return sum(first <= line <= last for line in self.code_lines)


def sources(package: Path = PACKAGE) -> list[Source]:
    return [Source(path, package) for path in sorted(package.rglob("*.py"))]


def files(house: list[Source]) -> list[Definition]:
    return [Definition(source.name, len(source.code_lines)) for source in house]


def classes(house: list[Source]) -> list[Definition]:
    return [
        Definition(f"{source.name}: {name}", source.size(node.lineno, node.end_lineno))
        for source in house
        for name, node in source.definitions(ast.ClassDef)
    ]


def functions(house: list[Source]) -> list[Definition]:
    """Measure the bodies of functions and methods, functions within them included."""
    return [
        Definition(f"{source.name}: {name}", source.size(node.body[0].lineno, node.end_lineno))
        for source in house
        for name, node in source.definitions((ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def any_parameters(house: list[Source]) -> tuple[list[str], int]:
    """Return the parameters that are annotated by Any, and the number of all with annotations."""
    found, n_all = [], 0
    for source in house:
        for name, node in source.definitions((ast.FunctionDef, ast.AsyncFunctionDef)):
            given = node.args
            every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            for argument in every:
                if argument is None or argument.annotation is None:
                    continue
                n_all += 1
                annotation = ast.unparse(argument.annotation).strip("'\"")
                if set(annotation.split(" | ")) - {"None"} == {"Any"}:
                    found.append(f"{source.name}:{argument.lineno} {name}({argument.arg})")
    return found, n_all


def _code_lines(text: str) -> set[int]:
    ignored = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (*ignored, tokenize.ENDMARKER):
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def _docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node):
            first = node.body[0]
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def _n_parameters() -> int:
    import inspect

    from skimbal import CNN2DClassifier

    return len(inspect.signature(CNN2DClassifier).parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("package", nargs="?", type=Path, default=PACKAGE)
    parser.add_argument("--tests", action="store_true", help="time the default run of the tests")
    args = parser.parse_args()
    house = sources(args.package)
    bodies = sorted(definition.n_lines for definition in functions(house))
    found, n_all = any_parameters(house)

    def largest(definitions: list[Definition]) -> str:
        top = max(definitions, key=lambda definition: definition.n_lines)
        return f"{top.n_lines} ({top.place})"

    rows = [
        ("files", len(house)),
        ("median lines of a file", statistics.median(source.n_lines for source in house)),
        ("largest file, lines of code", largest(files(house))),
        ("largest class, lines of code", largest(classes(house))),
        ("largest function body, lines of code", largest(functions(house))),
        ("function body, median", bodies[len(bodies) // 2]),
        ("function body, 90th percentile", bodies[int(0.9 * len(bodies))]),
        ("annotated parameters that are Any", f"{len(found)} of {n_all}, {len(found) / n_all:.1%}"),
    ]
    if args.package == PACKAGE:
        rows.append(("parameters of the constructor", _n_parameters()))
    root = args.package.resolve().parent
    if args.tests:
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=root, check=False)
        seconds = time.perf_counter() - start
        rows.append(("default tests", f"{seconds:.0f} s, exit code {done.returncode}"))
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    test_english.main(root)


if __name__ == "__main__":
    main()
