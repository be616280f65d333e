"""The data sets of MedMNIST, found on disk or downloaded."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from sklearn.utils import Bunch

from skimbal.datasets.arrays import ArrayAxes
from skimbal.datasets.bunch import make_bunch
from skimbal.datasets.labels import Missing
from skimbal.datasets.npz import read_parts
from skimbal.datasets.origin import Origin
from skimbal.exceptions import ParameterError, import_optional
from skimbal.typing import PathLike

__all__ = ["DATA_SETS", "SAMPLES", "URL", "load_medmnist", "load_medmnist_sample"]


class DataSetFacts(TypedDict):
    """Facts about a data set of MedMNIST."""

    classes: list[str]
    md5: dict[str, str]


#: The data sets of MedMNIST 3.0.2 by name: the class names by class number, and the md5 sums of
#: the files by size, in pixels or voxels. chestmnist, the multi-label set, is left out.
DATA_SETS: dict[str, DataSetFacts] = json.loads(
    Path(__file__).with_suffix(".json").read_text("utf-8")
)

#: The data sets with a sample in this package, and the source of their images.
SAMPLES = {
    "pneumoniamnist": "Kermany D. S. et al., Identifying medical diagnoses and treatable diseases "
    "by image-based deep learning, Cell 172:1122 (2018), doi:10.1016/j.cell.2018.02.010",
    "vesselmnist3d": "Yang X. et al., IntrA: 3D intracranial aneurysm dataset for deep learning, "
    "CVPR (2020)",
}
_FOLDER_OF_SAMPLES = Path(__file__).with_name("medmnist-samples")

#: The folder that files are downloaded from. A mirror may be put in its place.
URL = "https://zenodo.org/records/10519652/files"

_MEDMNIST = (
    "Yang J. et al., MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical "
    "image classification, Scientific Data 10:41 (2023), doi:10.1038/s41597-022-01721-8"
)


def load_medmnist(
    name: str,
    size: int = 28,
    *,
    data_home: PathLike | None = None,
    download: bool = True,
) -> Bunch:
    """Load a MedMNIST data set, and download it unless it is on this machine.

    The file is ``{name}.npz``, or ``{name}_{size}.npz`` for sizes other than 28. The folders that
    the environment variable ``SKIMBAL_DATA`` lists (separated as in ``PATH``) and their direct
    sub-folders are searched first, then `data_home`. Wherever the file is found, it must have the
    md5 sum that MedMNIST publishes.

    Parameters
    ----------
    name : str
        Such as ``"pneumoniamnist"`` or ``"vesselmnist3d"``. Every set can be loaded except
        ``"chestmnist"``, whose images have several labels each. The grades of ``"retinamnist"``
        are taken as classes.
    size : int, default=28
        Edge of the images: 28, 64, 128 or 224 pixels, or 28 or 64 voxels in 3D.
    data_home : str or path-like, default=None
        Folder for downloads. None is the user's cache folder, which pooch finds.
    download : bool, default=True
        Whether to download a file that was not found.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are listed in :mod:`skimbal.datasets`.

    Raises
    ------
    ValueError
        If MedMNIST does not have the set or the size, or if the file that was found differs from
        MedMNIST's.
    FileNotFoundError
        If the file was not found and `download` is False.
    OSError
        If the download fails.
    ImportError
        If pooch is needed and missing: ``pip install pooch``.

    Examples
    --------
    >>> from skimbal.datasets import load_medmnist
    >>> data = load_medmnist("vesselmnist3d")  # doctest: +SKIP
    >>> data.X_train.shape, data.target_names  # doctest: +SKIP
    ((1335, 28, 28, 28), ['vessel', 'aneurysm'])
    """
    if name == "chestmnist":
        raise ParameterError(
            "name",
            "a data set with one label for each image",
            name,
            "Its images have 14 labels each, and multi-label targets are not supported.",
        )
    if name not in DATA_SETS:
        raise ParameterError("name", f"one of {', '.join(DATA_SETS)}", name)
    md5 = {int(edge): digest for edge, digest in DATA_SETS[name]["md5"].items()}
    if size not in md5:
        raise ParameterError("size", f"{' or '.join(map(str, md5))} for {name}", size)
    file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
    path = _find_or_download(file, md5[size], data_home, download)
    names = DATA_SETS[name]["classes"]
    return make_bunch(
        read_parts(path, None, ArrayAxes(), Missing(None), max_pixels=sys.maxsize),
        name=file.removesuffix(".npz"),
        filename=str(path),
        classes=np.arange(len(names)),
        target_names=list(names),
        source=f"MedMNIST, {URL}/{file}",
        license="CC BY-NC 4.0" if name == "dermamnist" else "CC BY 4.0",
        citation=f"{_MEDMNIST}, and the source of the data set, which https://medmnist.com names",
        origin=Origin.of_call(
            load_medmnist,
            name=name,
            size=size,
            data_home=None if data_home is None else Path(data_home),
            download=download,
        ),
    )


def load_medmnist_sample(name: str) -> Bunch:
    """Load real images that come with the package: a small part of a MedMNIST data set.

    The samples need neither a download nor a network. They are for examples and tests: scores on so
    few images mean little.

    ==================== ================================== ========= ======== ====== =======
    name                 images                             class     train    val    test
    ==================== ================================== ========= ======== ====== =======
    ``"pneumoniamnist"`` chest X-rays, 28 x 28              normal    45       15     30
    ..                                                      pneumonia 225      75     150
    ``"vesselmnist3d"``  segments of vessels of the brain,  vessel    240      80     160
    ..                   28 x 28 x 28                       aneurysm  30       10     20
    ==================== ================================== ========= ======== ====== =======

    Each part has the first images of each class in the same part of the data set, without copies.
    The classes of the X-rays have other shares than in the data set. ``README.md`` beside
    ``filename`` states the sources, the rows and the changes, and ``LICENSE.txt`` is the licence,
    CC BY 4.0.

    Parameters
    ----------
    name : str
        ``"pneumoniamnist"`` or ``"vesselmnist3d"``.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are listed in :mod:`skimbal.datasets`. ``X_*`` is uint8, of shape (n, 28, 28) or
        (n, 28, 28, 28). The images have no patients, as MedMNIST publishes none.

    Raises
    ------
    ValueError
        If the package has no sample of this name.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal.datasets import load_medmnist_sample
    >>> data = load_medmnist_sample("pneumoniamnist")
    >>> data.X_train.shape, data.target_names, np.bincount(data.y_train)
    ((270, 28, 28), ['normal', 'pneumonia'], array([ 45, 225]))
    """
    if name not in SAMPLES:
        raise ParameterError(
            "name", " or ".join(map(repr, SAMPLES)), name, "load_medmnist loads whole data sets."
        )
    path = _FOLDER_OF_SAMPLES / f"{name}.npz"
    names = DATA_SETS[name]["classes"]
    return make_bunch(
        read_parts(path, None, ArrayAxes(), Missing(None), max_pixels=sys.maxsize),
        name=f"{name}_sample",
        filename=str(path),
        classes=np.arange(len(names)),
        target_names=list(names),
        source=f"a part of {name} of MedMNIST v2, described in {path.with_name('README.md')}",
        license="CC BY 4.0",
        citation=f"{_MEDMNIST}. {SAMPLES[name]}",
        origin=Origin.of_call(load_medmnist_sample, name=name),
    )


def _find_or_download(file: str, md5: str, data_home: PathLike | None, download: bool) -> Path:
    """Return the path of a file that has the md5 sum `md5`."""
    folders = [
        Path(folder) for folder in os.environ.get("SKIMBAL_DATA", "").split(os.pathsep) if folder
    ]
    candidates = [
        path for folder in folders for path in (folder / file, *sorted(folder.glob(f"*/{file}")))
    ]
    found = next(filter(Path.is_file, candidates), None)
    if found is None:
        cache = Path(_import_pooch().os_cache("skimbal") if data_home is None else data_home)
        found = cache / file
        if not found.is_file():
            if not download:
                raise FileNotFoundError(
                    f"{file} must be in {cache} or in a folder that SKIMBAL_DATA names; got "
                    f"neither. Pass download=True, or get {URL}/{file} and put it there."
                )
            _download(file, md5, cache)
    with found.open("rb") as stream:
        got = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        raise ValueError(
            f"{found} must be MedMNIST's file, of md5 sum {md5}; got {got}. Replace the file, or "
            "read it as it is with skimbal.datasets.load_npz."
        )
    return found


def _download(file: str, md5: str, cache: Path) -> None:
    try:
        _import_pooch().retrieve(
            f"{URL}/{file}", f"md5:{md5}", fname=file, path=cache, progressbar=True
        )
    # pooch raises ValueError for a download whose md5 sum is wrong.
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot download {file} ({type(error).__name__}: {error}). Get {URL}/{file} on a "
            f"machine that can, and put it in {cache} or in a folder that SKIMBAL_DATA names."
        ) from error


def _import_pooch() -> Any:
    return import_optional("pooch", "load_medmnist", "data")
