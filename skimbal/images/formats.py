"""The table of file formats."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from skimbal.images._arrays import is_zarr, read_npy, read_npz, read_zarr
from skimbal.images._dicom import read_dicom, read_series
from skimbal.images._nifti import read_nifti
from skimbal.images._pictures import read_picture
from skimbal.images._reading import DecodedImage

__all__ = ["READERS", "find_images", "read_image"]


def find_images(
    folder: str | os.PathLike[str], *, series_level: int | None = 1, any_file: bool = False
) -> tuple[list[str], list[str]]:
    """Find what :class:`~skimbal.images.ImageFiles` reads in a folder and those within.

    Parameters
    ----------
    folder : str or path-like
        Where to look.
    series_level : int, default=1
        So many levels below ``folder``, and further down, a folder with DICOM files is one image,
        their series. Above, or everywhere if None, each of them is an image.
    any_file : bool, default=False
        Whether every file is taken for an image, as those of a ``reader`` of one's own are.

    Returns
    -------
    images, others : list of str
        Paths below ``folder``, sorted, of images and of all other files; names that begin with a
        dot are left out.

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
    for where, folders, names in os.walk(folder):
        below = [os.path.join(where, name) for name in folders if not name.startswith(".")]
        arrays = [] if any_file else [path for path in below if is_zarr(path)]
        folders[:] = [os.path.basename(path) for path in below if path not in arrays]
        images += arrays
        level = len(Path(where).relative_to(folder).parts)
        series_here = not any_file and series_level is not None and level >= series_level
        is_series = False
        for name in names:
            path = os.path.join(where, name)
            if name.startswith("."):
                continue
            if series_here and is_dicom(path):
                is_series = True
            elif name.upper() != "DICOMDIR":  # a table of contents
                (images if any_file or _has_reader(path) else others).append(path)
        images += [where] * is_series
    found = [sorted(os.path.relpath(path, folder) for path in paths) for paths in (images, others)]
    return found[0], found[1]


def read_image(path: str, channels: int | None, header_only: bool) -> DecodedImage:
    """Read a file by the reader of its format, or its header."""
    if not os.path.exists(path):
        if os.path.islink(path):
            raise FileNotFoundError(
                f"{path} is a link to {os.readlink(path)}, which is not there. Mend the link, or "
                "leave it out."
            )
        raise FileNotFoundError(
            f"there is no file {path}. Check the path, and the folder that it is relative to."
        )
    if os.path.isdir(path):
        if is_zarr(path):
            return read_zarr(path, channels, header_only)
        entries = [entry.path for entry in os.scandir(path) if entry.is_file()]
        slices = sorted(name for name in entries if is_dicom(name))
        return read_series(slices, channels, header_only)
    if os.path.getsize(path) == 0:
        raise ValueError("the file is empty")
    name = os.path.basename(path).lower()
    for suffixes, read in READERS.items():
        if name.endswith(suffixes):
            return read(path, channels, header_only)
    if is_dicom(path):  # which often go without an extension
        return read_dicom(path, channels, header_only)
    known = ", ".join(suffix for suffixes in READERS for suffix in suffixes)
    raise ValueError(
        f"its extension is not one of {known}, and it is no DICOM file; other formats take a "
        "reader= of your own"
    )


def is_dicom(path: str) -> bool:
    """Tell a DICOM file by its name, or by its first bytes, as many have no extension."""
    name = os.path.basename(path).lower()
    for suffixes, read in READERS.items():
        if name.endswith(suffixes):
            return read is read_dicom
    if name == "dicomdir":
        return False
    with suppress(OSError), open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"
    return False


def _has_reader(path: str) -> bool:
    suffixes = tuple(suffix for suffixes in READERS for suffix in suffixes)
    return path.lower().endswith(suffixes) or is_dicom(path)


#: What reads a file with one of these extensions.
READERS: dict[tuple[str, ...], Callable[[str, int | None, bool], DecodedImage]] = {
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"): read_picture,
    (".nii", ".nii.gz"): read_nifti,
    (".dcm", ".dicom"): read_dicom,
    (".npy",): read_npy,
    (".npz",): read_npz,
}
