"""The images of a folder without labels."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from skimbal.exceptions import ParameterError, warn_caller
from skimbal.images.formats import FORMATS, advice_on, find_images, format_name
from skimbal.images.geometry import ImageSpec
from skimbal.typing import PathLike
from skimbal.wording import plural

__all__ = ["list_images", "masks_among"]

#: The name of a mask beside its image, such as "benign (1)_mask_1" and "scan-seg".
_MASK = re.compile(
    r"(.+)[ _.-](?:masks?|seg|segmentation|annotation|label|labels|gt|groundtruth|roi)"
    r"(?:[ _.-]?\d+)?",
    re.IGNORECASE | re.DOTALL,
)
#: Ends of the names of texts and tables, which lie beside images and are not images.
_NOTES = (
    *(".csv", ".tsv", ".txt", ".md", ".rst", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml"),
    *(".ini", ".html", ".htm", ".pdf", ".doc", ".docx", ".odt", ".xls", ".xlsx", ".ods", ".log"),
    *(".py", ".ipynb", ".sh", ".r", ".m", ".bval", ".bvec", ".sha256", ".md5", ".parquet"),
    *(".skimbal", ".onnx"),
)
_PASS_A_LIST = "Pass a list of the paths that are meant."


def list_images(folder: PathLike, *, n_spatial: int | None = None) -> list[str]:
    """List the images of a folder without labels, as a prediction takes them.

    Parameters
    ----------
    folder : str or path-like
        A folder that holds images, also in folders within it, or a folder that is one image.
    n_spatial : {2, 3}, default=None
        Number of spatial axes of an image. It decides about DICOM files of one frame: for 2, each
        file is an image. For 3, the files in a folder are the slices of one volume. If None,
        several such files in a folder are refused.

    Returns
    -------
    paths : list of str
        A path for each image, each beginning with ``folder``, sorted as text. A folder for a DICOM
        series or an array of zarr. Hidden files, files of the operating system, texts and tables
        are left out.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    NotADirectoryError
        If it is a file.
    ValueError
        If the folder holds no image, masks beside their images, images within a folder that is an
        image as a whole, or DICOM files that may be slices or images.

    Warns
    -----
    UserWarning
        If the folder holds further files that cannot be read, with their number.

    See Also
    --------
    skimbal.datasets.load_image_folder : Images with their labels.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skimbal.images import list_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "notes.txt", "visit-2/a.png"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         Path(folder, name).touch()
    ...     [Path(path).relative_to(folder).as_posix() for path in list_images(folder)]
    ['b.png', 'visit-2/a.png']
    """
    if n_spatial not in (None, 2, 3):
        raise ParameterError("n_spatial", "2, 3 or None", n_spatial)
    root = os.fspath(folder)
    if not os.path.isdir(root):
        if os.path.exists(root):
            raise NotADirectoryError(f"folder must be a folder; got the file {root}.")
        raise FileNotFoundError(f"folder must be a folder that exists; got {root}.")
    if any(row.is_folder and row.is_folder(root) for row in FORMATS.values()):
        return [root]
    images, others = find_images(root, series_level=None)
    if _holds_slices(root, images, n_spatial):
        images, others = find_images(root, series_level=0)
        _refuse_images_within(root, images)
    _warn_of_others(root, others)
    if not images:
        found = f"{plural(len(others), 'other file')}, such as {others[0]}" if others else "nothing"
        raise ValueError(f"{root} must hold images; got {found}.")
    masks = masks_among(images)
    if masks:
        mask, image = next(iter(masks.items()))
        raise ValueError(
            f"{root} must hold images; got {mask}, which is called the mask of {image} beside it. "
            f"{_PASS_A_LIST}"
        )
    return [os.path.normpath(os.path.join(root, name)) for name in images]


def masks_among(names: Iterable[str]) -> dict[str, str]:
    """Return the names of files that are called the mask of another file in their folder."""
    known = {_stem(name): name for name in names}
    masks = {}
    for stem, name in known.items():
        found = _MASK.fullmatch(stem)
        if found and found[1] in known:
            masks[name] = Path(known[found[1]]).name
    return masks


def _stem(name: str) -> str:
    """Return a path without its extension, also of two parts."""
    return os.path.splitext(name)[0].removesuffix(".nii")


def _holds_slices(root: str, images: list[str], n_spatial: int | None) -> bool:
    """Tell whether the folder holds files that are the slices of volumes."""
    readable = {name for name, row in FORMATS.items() if row.read_series is not None}
    of_folder: dict[str, list[str]] = {}
    for name in images:
        if n_spatial != 2 and format_name(os.path.join(root, name)) in readable:
            of_folder.setdefault(os.path.dirname(name), []).append(name)
    fullest = max(of_folder.values(), key=len, default=[])
    if not fullest or (n_spatial is None and len(fullest) == 1):
        return False
    spec = ImageSpec(None, "resample", None, None, None)
    if spec.header(os.path.join(root, fullest[0])).n_spatial == 3:  # a file of several frames
        return False
    if n_spatial is None:
        raise ValueError(
            f"{root} must hold files that are surely images; got {plural(len(fullest), 'file')} of "
            f"{' or '.join(sorted(readable))} in one folder, such as {fullest[0]}, which may be "
            "images or the slices of a volume. Pass n_spatial=2 or n_spatial=3."
        )
    return True


def _refuse_images_within(root: str, images: list[str]) -> None:
    """Refuse images beside or below the slices of a volume."""
    paths = [Path(name) for name in images]
    whole = {path for path in paths if (root / path).is_dir()}
    for path in paths:
        above = [parent for parent in path.parents if parent in whole and parent != path]
        if above:
            raise ValueError(
                f"{root / above[0]} must hold the slices of a volume or images; got slices and "
                f"{path}, which is another image. {_PASS_A_LIST}"
            )


def _warn_of_others(root: str, others: list[str]) -> None:
    """Warn of files that may be images of formats without a reader, and links that lead nowhere."""
    strange = [name for name in others if not name.lower().endswith(_NOTES)]
    if strange:
        advice = advice_on(strange[0])
        warn_caller(
            f"{plural(len(strange), 'file')} of {root} cannot be read, and there is no result for "
            f"them. The first is {strange[0]}." + (f" {advice}." if advice else "")
        )
