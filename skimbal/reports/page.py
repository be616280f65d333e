"""Pages that are complete in themselves: no network, no scripts, no other files."""

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from importlib.resources import files
from io import FileIO
from pathlib import Path
from typing import Any

from skimbal.atomic import replacing
from skimbal.exceptions import import_optional
from skimbal.typing import PathLike

__all__ = ["format_duration", "new_page", "render_page", "require_packages"]

#: Templates that the template of a page may extend and import.
_SHARED = ("page.html.jinja", "parts.html.jinja")


def require_packages(user: str) -> None:
    """Say how to install the packages that pages need, if one is missing."""
    packages = ("jinja2", "matplotlib")
    for package in packages:
        import_optional(package, user, "study", beside=packages)


@contextmanager
def new_page(path: PathLike) -> Iterator[FileIO]:
    """Open a new file beside the path, or say why that is impossible."""
    target = Path(os.path.realpath(path))  # a link stays a link
    name = repr(os.fspath(path))
    if os.path.isdir(target):  # pathlib raises if a name is too long
        raise IsADirectoryError(f"path must be a file; got the folder {name}. Name a file in it.")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"path must be in a folder that exists; got {name}, but there is no folder "
            f"{str(target.parent)!r}. Make it first, or give another path."
        )
    with ExitStack() as stack:
        try:
            with suppress(FileNotFoundError):
                os.lstat(target)  # raises if the name is too long
            file = stack.enter_context(replacing(target))
        except OSError as error:
            raise type(error)(
                f"path must be in a folder where files can be made; got {name} ({error.strerror}). "
                "Give another path."
            ) from error
        yield file


def render_page(template: str, version: str, context: Mapping[str, Any]) -> bytes:
    """Fill in a template that extends ``page.html.jinja``.

    Parameters
    ----------
    template : str
        The text of the template. It sets ``title`` and ``contents``: pairs of the name of a section
        and its title.
    version : str
        Version of this package.
    context : mapping
        Values of the template, ``description`` among them.

    Returns
    -------
    page : bytes
        The page. Texts of the values are escaped.
    """
    jinja2 = import_optional("jinja2", "a report", "study")
    folder = files("skimbal.reports")
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(
            {name: folder.joinpath(name).read_text("utf-8") for name in _SHARED}
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    facts = {
        "version": version,
        "machine": f"Python {platform.python_version()}, {platform.platform()}",
        "today": date.today().isoformat(),
    }
    text: str = environment.from_string(template).render(facts | dict(context))
    return text.encode()


def format_duration(seconds: float) -> str:
    """Write a time in the unit that suits it.

    Parameters
    ----------
    seconds : float
        The time in seconds.

    Returns
    -------
    text : str
        Seconds, minutes, or hours and minutes.

    Examples
    --------
    >>> from skimbal.reports import format_duration
    >>> format_duration(9000)
    '2 h 30 min'
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
