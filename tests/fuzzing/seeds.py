"""Small valid files of every row of FORMATS, in many modes: what the fuzzer damages."""

import gzip
import io
import itertools
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import tifffile
import zarr
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from tests.images import dicom_data
from tests.images.test_dicom_limits import compressed, picture
from tests.images.test_dicom_values import palette
from tests.images.test_pictures import PNG_CELLS, draw_png

#: The bytes of an image by the names of its files: one, or those of a folder.
Unit = dict[str, bytes]

SIZE = (9, 7)
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, SIZE, dtype=np.uint8)
RGB = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (*SIZE, 4), dtype=np.uint8)


def pngs() -> list[Unit]:
    units = [
        {"a.png": draw_png(*cell, SIZE, interlaced)[0]}
        for cell, interlaced in itertools.product(PNG_CELLS, (False, True))
    ]
    return [*units, saved("a.png", RGB, exif=exif(6)), saved("a.png", GREY, exif=exif(8))]


def exif(orientation):
    entries = Image.Exif()
    entries[0x0112] = orientation
    return entries


def saved(name, pixels, mode=None, **options) -> Unit:
    stream = io.BytesIO()
    kind = {"jpg": "JPEG", "webp": "WebP", "tif": "TIFF"}.get(name[2:], name[2:].upper())
    shown = Image.fromarray(pixels)
    (shown if mode is None else shown.convert(mode)).save(stream, kind, **options)
    return {name: stream.getvalue()}


def jpegs() -> list[Unit]:
    units = [saved("a.jpg", pixels, progressive=p) for pixels in (GREY, RGB) for p in (0, 1)]
    units += [saved("a.jpg", RGB, "CMYK"), saved("a.jpg", RGB, subsampling=0)]
    units += [saved("a.jpg", RGB, exif=exif(n)) for n in (3, 6)]
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "MPO", save_all=True, append_images=[Image.fromarray(RGB)])
    return [*units, {"a.jpg": stream.getvalue()}]


def webps() -> list[Unit]:
    units = [saved("a.webp", pixels, lossless=w) for pixels in (RGB, RGBA) for w in (False, True)]
    moving = {"save_all": True, "append_images": [Image.fromarray(RGB[::-1])]}
    return [*units, saved("a.webp", RGB, exif=exif(6)), saved("a.webp", RGB, **moving)]


def bmps() -> list[Unit]:
    return [saved("a.bmp", RGB, mode) for mode in ("1", "L", "P", "RGB")] + [
        saved("a.bmp", RGBA, "RGBA")
    ]


def tiffs() -> list[Unit]:
    units = []

    def add(pixels, **options):
        stream = io.BytesIO()
        options = {"photometric": "minisblack", "metadata": None, **options}
        tifffile.imwrite(stream, pixels, **options)
        units.append({"a.tif": stream.getvalue()})

    for dtype in ("u1", "u2", "u4", "i2", "f4", "f8", "?"):
        add(GREY.astype(dtype))
    for options in ({"compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True}):
        add(GREY.astype("u2"), **options)
        add(RGB, photometric="rgb", **options)
    add(GREY, compression="lzma")
    add(GREY, photometric="miniswhite")
    add(RGBA, photometric="rgb", extrasamples=["unassalpha"])
    add(np.moveaxis(RGB, -1, 0).copy(), photometric="rgb", planarconfig="separate")
    add(np.stack([GREY] * 3), rowsperstrip=4)
    add(GREY.repeat(4, 0).repeat(4, 1), tile=(16, 16), compression="zlib")
    add(GREY, compression="zlib", predictor=True)
    volume = np.stack([GREY, GREY[::-1], GREY]).astype("u2")
    add(volume, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0, "unit": "mm"})
    add(volume, ome=True, metadata={"axes": "ZYX", "PhysicalSizeZ": 2.0})
    add(volume, metadata={"axes": "ZYX"})
    add(volume, metadata={"axes": "CYX"}, resolution=(10, 10), resolutionunit="CENTIMETER")
    for packing in ("tiff_lzw", "packbits", "jpeg", "tiff_deflate"):
        units.append(saved("a.tif", RGB, compression=packing))
    units += [saved("a.tif", RGB, mode) for mode in ("P", "CMYK", "1", "YCbCr")]
    units += [saved("a.tif", GREY, "1", compression="group4")]
    return units


def niftis() -> list[Unit]:
    units = []

    def add(
        pixels, kind=nibabel.Nifti1Image, affine=(2.0, 1.0, 3.0, 1.0), scale=None, turned=False
    ):
        matrix = np.diag(affine)
        image = kind(pixels, matrix[[1, 0, 2, 3]] if turned else matrix)
        if scale is not None:
            image.header.set_slope_inter(*scale)
        data = image.to_bytes()
        units.append({"a.nii": data})
        units.append({"a.nii.gz": gzip.compress(data, mtime=0)})

    volume = np.stack([GREY, GREY[::-1]], axis=-1)
    for dtype in ("u1", "i2", "u2", "f4", "f8", ">i2"):
        add(volume.astype(dtype))
    add(volume.astype("i2"), scale=(2.0, -1.0))
    add(volume.astype("f4"), nibabel.Nifti2Image, turned=True)
    add(GREY.astype("i2"))
    add(np.stack([volume] * 2, axis=-1).astype("i2"))
    colours = np.zeros((*SIZE, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    add(colours)
    half = len(units[0]["a.nii"]) // 2
    parts = (units[0]["a.nii"][:half], units[0]["a.nii"][half:])
    return [*units, {"a.nii.gz": b"".join(gzip.compress(part, mtime=0) for part in parts)}]


def dicoms() -> list[Unit]:
    with tempfile.TemporaryDirectory() as folder:
        return _dicoms(Path(folder))


def _dicoms(folder: Path) -> list[Unit]:
    units: list[Unit] = []

    def add(dataset, syntax=None, **options):
        dicom_data.save(dataset, folder / "a.dcm", syntax, **options)
        units.append({"a.dcm": (folder / "a.dcm").read_bytes()})

    stored = np.arange(30, dtype=np.uint16).reshape(5, 6)
    make, rescaled = dicom_data.make, {"RescaleSlope": "2", "RescaleIntercept": "-7"}
    for dtype in ("u1", "u2", "i2", "u4", "f4", "f8"):
        add(make(stored.astype(dtype)))
    for syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        swap = {"implicit_vr": syntax == ImplicitVRLittleEndian}
        swap["little_endian"] = syntax != ExplicitVRBigEndian
        pixels = stored if swap["little_endian"] else stored.byteswap()
        add(make(pixels, **rescaled), syntax)
    add(make(stored, PixelPaddingValue=3, Modality="CT", **rescaled))
    add(make(stored, BitsStored=12, PixelSpacing=[2, 3]))
    add(make(stored.astype(np.uint8), PhotometricInterpretation="MONOCHROME1"))
    add(make(RGB))
    add(make(RGB, PhotometricInterpretation="YBR_FULL"))
    add(palette(stored.astype(np.uint8), 8, 30)[0])
    frames = np.stack([stored, stored])
    add(dicom_data.enhanced(frames, [dicom_data.placed(0), dicom_data.placed(5)]))
    doses = {"DoseGridScaling": "1", "GridFrameOffsetVector": [0, 3]}
    add(make(frames, Modality="RTDOSE", **doses))
    dataset = make(stored)
    dataset.compress(RLELossless, generate_instance_uid=False)
    add(dataset)
    for syntax, kind in ((JPEGBaseline8Bit, "JPEG"), (JPEG2000Lossless, "JPEG2000")):
        compressed(folder / "a.dcm", [picture((5, 6), kind)], syntax)
        units.append({"a.dcm": (folder / "a.dcm").read_bytes()})
    series = dicom_data.save_slices(folder / "series", [0, 3, 6])
    units.append({path.name: path.read_bytes() for path in sorted(series.iterdir())})
    return units


def npys() -> list[Unit]:
    units = []
    for dtype in ("u1", ">u2", "i4", "f2", "f4", "f8", "?"):
        stream = io.BytesIO()
        np.save(stream, GREY.astype(dtype))
        units.append({"a.npy": stream.getvalue()})
    for version in ((1, 0), (2, 0), (3, 0)):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.asfortranarray(RGB.transpose(2, 0, 1)), version)
        units.append({"a.npy": stream.getvalue()})
    return units


def npzs() -> list[Unit]:
    units = []
    for save in (np.savez, np.savez_compressed):
        for pixels in (GREY, RGB.transpose(2, 0, 1).astype("f4")):
            stream = io.BytesIO()
            save(stream, image=pixels)
            units.append({"a.npz": stream.getvalue()})
    return units


def zarrs() -> list[Unit]:
    units: list[Unit] = []
    for i, (dtype, options) in enumerate(
        itertools.product(
            ("u1", "<f4"),
            (
                {"zarr_format": 3},
                {"zarr_format": 2},
                {"zarr_format": 3, "chunks": (4, 4)},
                {"zarr_format": 3, "chunks": (3, 4), "shards": (9, 8)},
                {"zarr_format": 3, "compressors": None},
            ),
        )
    ):
        with tempfile.TemporaryDirectory() as folder:
            array = zarr.create_array(f"{folder}/{i}", shape=SIZE, dtype=dtype, **options)
            array[...] = GREY
            files = sorted(path for path in Path(folder, str(i)).rglob("*") if path.is_file())
            units.append(
                {str(path.relative_to(f"{folder}/{i}")): path.read_bytes() for path in files}
            )
    return units


#: For each row of FORMATS, a function that makes its seeds.
SEEDS = {
    "PNG": pngs,
    "JPEG": jpegs,
    "TIFF": tiffs,
    "BMP": bmps,
    "WebP": webps,
    "NIfTI": niftis,
    "DICOM": dicoms,
    "npy": npys,
    "npz": npzs,
    "zarr": zarrs,
}
