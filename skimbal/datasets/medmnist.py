"""The data sets of MedMNIST, found on disk or downloaded."""

import hashlib
import os
from pathlib import Path
from typing import Any

from sklearn.utils import Bunch

from skimbal.datasets.npz import make_bunch, read_npz

__all__ = ["load_medmnist"]

# The facts of MedMNIST 3.0.2: class names by class number, then the md5 sums of the files of
# 28, 64, 128 and 224 pixels (28 and 64 voxels in 3D). chestmnist, the multi-label set, is left out.
_ZENODO = "https://zenodo.org/records/10519652/files"
_SIZES = (28, 64, 128, 224)
_ORGANS = (
    "bladder; femur-left; femur-right; heart; kidney-left; kidney-right; liver; lung-left; "
    "lung-right; pancreas; spleen"
)
_MEDMNIST = {
    "adrenalmnist3d": (
        "normal; hyperplasia",
        "bbd3c5a5576322bc4cdfea780653b1ce 17721accfe9fb005146a47d33bc54b2f",
    ),
    "bloodmnist": (
        "basophil; eosinophil; erythroblast; immature granulocytes(myelocytes, metamyelocytes and "
        "promyelocytes); lymphocyte; monocyte; neutrophil; platelet",
        "7053d0359d879ad8a5505303e11de1dc 2b94928a2ae4916078ca51e05b6b800b "
        "adace1e0ed228fccda1f39692059dd4c b718ff6835fcbdb22ba9eacccd7b2601",
    ),
    "breastmnist": (
        "malignant; normal, benign",
        "750601b1f35ba3300ea97c75c52ff8f6 742edef2a1fd1524b2efff4bd7ba9364 "
        "363e4b3f8d712e9b5de15470a2aaadf1 b56378a6eefa9fed602bb16d192d4c8b",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma; basal cell carcinoma; benign "
        "keratosis-like lesions; dermatofibroma; melanoma; melanocytic nevi; vascular lesions",
        "0744692d530f8e62ec473284d019b0c7 b70a2f5635c6199aeaa28c31d7202e1f "
        "2defd784463fa5243564e855ed717de1 8974907d8e169bef5f5b96bc506ae45d",
    ),
    "fracturemnist3d": (
        "buckle rib fracture; nondisplaced rib fracture; displaced rib fracture",
        "6aa7b0143a6b42da40027a9dda61302f f01d7e6316aedf4210da0da5b7437b42",
    ),
    "nodulemnist3d": (
        "benign; malignant",
        "8755a7e9e05a4d9ce80a24c3e7a256f3 c47c5b7d457bf6332200d2ea6d64ecd8",
    ),
    "octmnist": (
        "choroidal neovascularization; diabetic macular edema; drusen; normal",
        "c68d92d5b585d8d81f7112f81e2d0842 e229e9440236b774d9f0dfef9d07bdaf "
        "0a97e76651ace45c5d943ee3f65b63ae abc493b6d529d5de7569faaef2773ba3",
    ),
    "organamnist": (
        _ORGANS,
        "68e3f8846a6bd62f0c9bf841c0d9eacc 2dcccc29b88e6da5a01161ef20cda288 "
        "eeae80d0a227a8d099027e1b3cfd3b60 50747347e05c87dd3aaf92c49f9f3170",
    ),
    "organcmnist": (
        _ORGANS,
        "b9ceb9546e10131b32923c5bbeaea2b1 3ce34a8724ea6f548e6db4744d03b6a9 "
        "773c1f009daa3fe5d9a2a201b2a7ed94 050f5e875dc056f6768abf94ec9995d1",
    ),
    "organmnist3d": (
        "liver; kidney-right; kidney-left; femur-right; femur-left; bladder; heart; lung-right; "
        "lung-left; spleen; pancreas",
        "a0c5a1ff56af4f155c46d46fbb45a2fe 58a2205adf14a9d0a189cb06dc78bf10",
    ),
    "organsmnist": (
        _ORGANS,
        "9ab87b696fb54e2a387ebe992d6ed5f1 53a6d115339d874c25e309a994ff46d3 "
        "ded0c5fa01a95dc4978b956f613e9b8e b354719e553fbbb2513d5533f52a4cb1",
    ),
    "pathmnist": (
        "adipose; background; debris; lymphocytes; mucus; smooth muscle; normal colon mucosa; "
        "cancer-associated stroma; colorectal adenocarcinoma epithelium",
        "a8b06965200029087d5bd730944a56c1 55aa9c1e0525abe5a6b9d8343a507616 "
        "ac42d08fb904d92c244187169d1fd1d9 2c51a510bcdc9cf8ddb2af93af1eadec",
    ),
    "pneumoniamnist": (
        "normal; pneumonia",
        "28209eda62fecd6e6a2d98b1501bb15f 8f4eceb4ccffa70c672198ea285246c6 "
        "05b46931834c231683c68f40c47b2971 d6a3c71de1b945ea11211b03746c1fe1",
    ),
    "retinamnist": (
        "0; 1; 2; 3; 4",
        "bd4c0672f1bba3e3a89f0e4e876791e4 afda852cc34dcda56f86ad2b2457dbcc "
        "e48e916a24454daf90583d4e6efb1a18 eae7e3b6f3fcbda4ae613ebdcbe35348",
    ),
    "synapsemnist3d": (
        "inhibitory synapse; excitatory synapse",
        "1235b78a3cd6280881dd7850a78eadb6 43bd14ebf3af9d3dd072446fedc14d5e",
    ),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule; Distal Convoluted Tubule; Glomerular endothelial "
        "cells; Interstitial endothelial cells; Leukocytes; Podocytes; Proximal Tubule Segments; "
        "Thick Ascending Limb",
        "ebe78ee8b05294063de985d821c1c34b 123ece2eba09d0aa5d698fda57103344 "
        "61b955355d7425a89687b06cca3ce0c2 b077128c4a949f0a4eb01517f9037b9c",
    ),
    "vesselmnist3d": (
        "vessel; aneurysm",
        "b41fd4f7e7e2feedddb201585ecafa1b 6bb274a8846e1097066dcd64e2c4520f",
    ),
}
_CITATION = (
    "Yang J. et al., MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical "
    "image classification, Scientific Data 10:41 (2023), doi:10.1038/s41597-022-01721-8; and the "
    "source of the data set, which https://medmnist.com names"
)


def load_medmnist(
    name: str,
    size: int = 28,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Bunch:
    """Load a MedMNIST data set, downloading it if it is nowhere on this machine.

    The file, ``{name}.npz`` or ``{name}_{size}.npz`` for sizes other than 28, is looked for in
    the folders that the environment variable ``SKIMBAL_DATA`` lists (separated as in ``PATH``)
    and in their direct sub-folders, then in `data_home`. Wherever it was, it must have the md5
    sum that MedMNIST publishes.

    Parameters
    ----------
    name : str
        Such as ``"pneumoniamnist"`` or ``"vesselmnist3d"``; every set but ``"chestmnist"``, whose
        images have several labels each. The grades of ``"retinamnist"`` are taken as classes.
    size : int, default=28
        Edge of the images: 28, 64, 128 or 224 pixels; 28 or 64 voxels in 3D.
    data_home : str or path-like, default=None
        Folder for downloads. None is the user's cache folder, which pooch finds.
    download : bool, default=True
        Whether to download a file that was not found.

    Returns
    -------
    sklearn.utils.Bunch
        The keys are those that :mod:`skimbal.datasets` lists.

    Raises
    ------
    ValueError
        If MedMNIST has no such set or size; if the file that was found is not MedMNIST's.
    FileNotFoundError
        If the file was not found and `download` is False.
    OSError
        If the download fails.
    ImportError
        If pooch is needed and missing: ``pip install "skimbal[data]"``.

    Examples
    --------
    >>> from skimbal.datasets import load_medmnist
    >>> data = load_medmnist("vesselmnist3d")  # doctest: +SKIP
    >>> data.X_train.shape, data.target_names  # doctest: +SKIP
    ((1335, 28, 28, 28), ['vessel', 'aneurysm'])
    """
    if name == "chestmnist":
        raise ValueError("chestmnist has 14 labels for each image: multi-label is not supported")
    if name not in _MEDMNIST:
        raise ValueError(
            f"unknown MedMNIST data set {name!r}: expected one of {', '.join(_MEDMNIST)}"
        )
    target_names, md5s = _MEDMNIST[name]
    md5 = dict(zip(_SIZES, md5s.split(), strict=False))
    if size not in md5:
        raise ValueError(f"{name} has the sizes {', '.join(map(str, md5))}, got {size!r}")
    file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
    path = _find_or_download(file, md5[size], data_home, download)
    return make_bunch(
        read_npz(path)[0],
        name=file.removesuffix(".npz"),
        filename=str(path),
        target_names=target_names.split("; "),
        source=f"MedMNIST, {_ZENODO}/{file}",
        license="CC BY-NC 4.0" if name == "dermamnist" else "CC BY 4.0",
        citation=_CITATION,
    )


def _find_or_download(
    file: str, md5: str, data_home: str | os.PathLike[str] | None, download: bool
) -> Path:
    """Return the path of a file that has the md5 sum `md5`."""
    folders = [
        Path(folder) for folder in os.environ.get("SKIMBAL_DATA", "").split(os.pathsep) if folder
    ]
    candidates = [
        path for folder in folders for path in (folder / file, *sorted(folder.glob(f"*/{file}")))
    ]
    found = next(filter(Path.is_file, candidates), None)
    if found is None:
        cache = Path(_pooch().os_cache("skimbal") if data_home is None else data_home)
        found = cache / file
        if not found.is_file():
            if not download:
                raise FileNotFoundError(
                    f"{file} is neither in {cache} nor in a folder that SKIMBAL_DATA names: pass "
                    f"download=True, or get {_ZENODO}/{file} and put it there"
                )
            _download(file, md5, cache)
    with found.open("rb") as stream:
        got = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        raise ValueError(
            f"{found} is not MedMNIST's file: expected md5 {md5}, got {got}; replace it, or read "
            "it as it is with skimbal.datasets.load_npz"
        )
    return found


def _download(file: str, md5: str, cache: Path) -> None:
    try:
        _pooch().retrieve(
            f"{_ZENODO}/{file}", f"md5:{md5}", fname=file, path=cache, progressbar=True
        )
    # pooch raises ValueError for a download whose md5 sum is wrong.
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot download {file}: get {_ZENODO}/{file} on a machine that can, and put it in "
            f"{cache} or in a folder that SKIMBAL_DATA names ({type(error).__name__}: {error})"
        ) from error


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            'MedMNIST is downloaded with pooch, which is missing: pip install "skimbal[data]"'
        ) from error
    return pooch
