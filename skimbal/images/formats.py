"""The table of file formats, and the search for images in a folder."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from skimbal.exceptions import ParameterError
from skimbal.images._arrays import is_zarr, read_npy, read_npz, read_zarr
from skimbal.images._dicom import has_dicom_mark, read_dicom, read_series
from skimbal.images._nifti import read_nifti
from skimbal.images._pictures import read_picture
from skimbal.images._reading import DecodedImage, ReadRequest
from skimbal.typing import PathLike

__all__ = [
    "FORMATS",
    "Format",
    "advice_on",
    "find_images",
    "format_name",
    "is_system_name",
    "read_image",
]

#: Files and folders that operating systems, archives and disks add, in small letters.
_SYSTEM_NAMES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}
_SYSTEM_NAMES |= {"$recycle.bin", "system volume information", "lost+found"}

_TO_NIFTI = "Save it as NIfTI first, as nibabel.save(nibabel.load(path), 'x.nii.gz') does"
#: Advice on files of other formats, by the ends of their names. The first end that fits counts.
_ADVICE = {
    (".hdr", ".img", ".hdr.gz", ".img.gz"): f"It is one of a pair of files. {_TO_NIFTI}",
    (".mgz", ".mgh", ".mnc", ".par", ".rec", ".head", ".brik", ".brik.gz"): _TO_NIFTI,
    (".mha", ".mhd", ".nrrd", ".nhdr"): (
        "Save it as NIfTI first, as SimpleITK.WriteImage(SimpleITK.ReadImage(path), 'x.nii.gz') "
        "does"
    ),
    (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z"): "Unpack it first",
}


@dataclass(frozen=True)
class Format:
    """The files that have a format, and their reader: a row of :data:`~skimbal.images.FORMATS`.

    Parameters
    ----------
    read : callable
        ``read(path, request)`` returns a :class:`DecodedImage`. ``request`` is a
        :class:`ReadRequest`.
    suffixes : tuple of str, default=()
        Ends of the names of files, in lower case. The longest suffix in the table that fits a name
        decides, and the last row among equal suffixes.
    is_file : callable, default=None
        ``is_file(path)`` recognises a file by its contents. Only files with no known suffix are
        asked about.
    is_folder : callable, default=None
        ``is_folder(path)`` recognises a folder that is one image as a whole. ``read`` gets its
        path.
    read_series : callable, default=None
        ``read_series(paths, request)`` returns a :class:`DecodedImage` of the files of this format
        in one folder, sorted by name: the slices of a volume.
    index_files : tuple of str, default=()
        Names, in lower case, of files that list other files and are not images.

    Raises
    ------
    ParameterError
        If ``suffixes`` or ``index_files`` is not a tuple of text in lower case.

    Examples
    --------
    Tables of numbers as images, in :class:`ImageFiles`, :func:`find_images`,
    :func:`~skimbal.datasets.load_image_folder` and the command line:

    >>> import numpy as np
    >>> from skimbal.images import FORMATS, DecodedImage, Format
    >>> def read_table(path, request):
    ...     return DecodedImage(np.loadtxt(path), n_spatial=2)
    >>> FORMATS["table"] = Format(read_table, suffixes=(".txt",))
    >>> del FORMATS["table"]
    """

    read: Callable[[str, ReadRequest], DecodedImage]
    suffixes: tuple[str, ...] = ()
    is_file: Callable[[str], bool] | None = None
    is_folder: Callable[[str], bool] | None = None
    read_series: Callable[[list[str], ReadRequest], DecodedImage] | None = None
    index_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that no file could match."""
        for name in ("suffixes", "index_files"):
            texts = getattr(self, name)
            if not isinstance(texts, tuple) or not all(
                isinstance(text, str) and text and text == text.lower() for text in texts
            ):
                raise ParameterError(
                    name, "a tuple of text in lower case, such as ('.png',)", texts
                )


#: The file formats, by their names. The table is read whenever a file is looked at, so a row that
#: is added counts at once, in this process.
FORMATS: dict[str, Format] = {
    "PNG": Format(read_picture, (".png",)),
    "JPEG": Format(read_picture, (".jpg", ".jpeg")),
    "TIFF": Format(read_picture, (".tif", ".tiff")),
    "BMP": Format(read_picture, (".bmp",)),
    "WebP": Format(read_picture, (".webp",)),
    "NIfTI": Format(read_nifti, (".nii", ".nii.gz")),
    "DICOM": Format(
        read_dicom,
        (".dcm", ".dicom"),
        is_file=has_dicom_mark,  # many DICOM files have no extension
        read_series=read_series,
        index_files=("dicomdir",),
    ),
    "npy": Format(read_npy, (".npy",)),
    "npz": Format(read_npz, (".npz",)),
    "zarr": Format(read_zarr, is_folder=is_zarr),
}


def find_images(
    folder: PathLike, *, series_level: int | None = 1, any_file: bool = False
) -> tuple[list[str], list[str]]:
    """Find the images in a folder and in the folders within it, by the table of formats.

    Parameters
    ----------
    folder : str or path-like
        The folder to search.
    series_level : int, default=1
        Number of levels below ``folder`` from which a folder with DICOM files is one image, their
        series. Above this level, or everywhere if None, each DICOM file is an image.
    any_file : bool, default=False
        Whether every file is an image, as with a ``reader`` of the user.

    Returns
    -------
    images, others : list of str
        Paths of images and of all other files, relative to ``folder`` and sorted. Names that begin
        with a dot are left out, and names that an operating system adds, such as ``Thumbs.db``.
        Links to folders are followed, unless they lead to a folder that they lie in.

    Raises
    ------
    OSError
        If a folder cannot be listed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skimbal.images import find_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "a.nii.gz", "notes.txt", ".hidden.png"):
    ...         Path(folder, name).touch()
    ...     find_images(folder)
    (['a.nii.gz', 'b.png'], ['notes.txt'])
    """
    images: list[str] = []
    others: list[str] = []
    index_files = _index_files()
    for where, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        below = [
            name
            for name in folders
            if not is_system_name(name) and not _leads_up(os.path.join(where, name), folder)
        ]
        whole = {
            name for name in below if not any_file and _folder_format(os.path.join(where, name))
        }
        images += [os.path.join(where, name) for name in whole]
        folders[:] = [name for name in below if name not in whole]
        level = len(Path(where).relative_to(folder).parts)
        series_here = series_level is not None and level >= series_level
        is_series = False
        for name in names:
            path = os.path.join(where, name)
            if is_system_name(name) or name.lower() in index_files:
                continue
            row = None if any_file else _file_format(path)
            if row is not None and row.read_series is not None and series_here:
                is_series = True
            else:
                (others if row is None and not any_file else images).append(path)
        images += [where] * is_series
    found = [sorted(os.path.relpath(path, folder) for path in paths) for paths in (images, others)]
    return found[0], found[1]


def is_system_name(name: str) -> bool:
    """Tell whether a name belongs to an operating system, or begins with a dot and is hidden."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _leads_up(path: str, top: PathLike) -> bool:
    """Tell whether a path is a link to a folder above it, which would be walked for ever."""
    if not os.path.islink(path):
        return False
    above = os.path.relpath(os.path.dirname(path), top).split(os.sep)
    folders = [os.path.join(top, *above[:k]) for k in range(len(above) + 1)]
    return os.path.realpath(path) in {os.path.realpath(folder) for folder in folders}


def _refuse_folder(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed, which os.walk would leave out."""
    raise error


def read_image(path: str, request: ReadRequest) -> DecodedImage:
    """Read a file, a folder or its header by the reader of its format."""
    if not os.path.exists(path):
        if os.path.islink(path):
            raise FileNotFoundError(
                f"{path} is a link to {os.readlink(path)}, which does not exist. Mend the link, or "
                "leave it out."
            )
        raise FileNotFoundError(
            f"{path} does not exist. Check the path, and the folder that it is relative to."
        )
    if os.path.isdir(path):
        return _read_folder(path, request)
    if os.path.getsize(path) == 0:
        raise ValueError("the file is empty")
    row = _file_format(path)
    if row is None:
        suffixes = ", ".join(suffix for row in FORMATS.values() for suffix in row.suffixes)
        tested = "".join(f" or {name}" for name, row in FORMATS.items() if row.is_file)
        advice = advice_on(path)
        raise ValueError(
            f"the file must have one of the extensions {suffixes}{tested}; got "
            f"{os.path.basename(path)!r}. "
            + (f"{advice}, or pass a reader=" if advice else "Pass a reader= for another format")
        )
    return row.read(path, request)


def advice_on(path: str) -> str | None:
    """Say what to do with a file of a known format that is not in the table."""
    name = os.path.basename(path).lower()
    return next((words for suffixes, words in _ADVICE.items() if name.endswith(suffixes)), None)


def format_name(path: str) -> str | None:
    """Return the name of the format of an image: a file, or a folder that is one image."""
    if os.path.isdir(path):
        row = _folder_format(path) or next((r for r in FORMATS.values() if r.read_series), None)
    else:
        row = _file_format(path)
    return next((name for name, known in FORMATS.items() if known is row), None)


def _read_folder(path: str, request: ReadRequest) -> DecodedImage:
    row = _folder_format(path)
    if row is not None:
        return row.read(path, request)
    with os.scandir(path) as entries:
        files = sorted(
            entry.path for entry in entries if entry.is_file() and not is_system_name(entry.name)
        )
    formats = [_file_format(file) for file in files]
    for row in FORMATS.values():
        slices = [file for file, known in zip(files, formats, strict=True) if known is row]
        if row.read_series is not None and slices:
            return row.read_series(slices, request)
    names = [name for name, row in FORMATS.items() if row.is_folder or row.read_series]
    raise ValueError(f"a folder must be an image of {' or '.join(names)}; got {len(files)} files")


def _file_format(path: str) -> Format | None:
    """Return the format of a file, by its name or else by its contents."""
    name = os.path.basename(path).lower()
    found, length = None, 0
    for row in FORMATS.values():
        if name.endswith(row.suffixes):
            longest = max(len(suffix) for suffix in row.suffixes if name.endswith(suffix))
            if longest >= length:
                found, length = row, longest
    if found is not None or name in _index_files():
        return found
    return next((row for row in FORMATS.values() if row.is_file and row.is_file(path)), None)


def _folder_format(path: str) -> Format | None:
    return next((row for row in FORMATS.values() if row.is_folder and row.is_folder(path)), None)


def _index_files() -> set[str]:
    return {name for row in FORMATS.values() for name in row.index_files}
