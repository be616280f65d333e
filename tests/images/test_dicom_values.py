"""The numbers of DICOM images, against the formulas of the standard."""

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_array_equal
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from skimbal.images import FORMATS, ImageFiles, ReadRequest
from tests.images.dicom_data import enhanced, item, make, placed, save

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
]


def read(path):
    """Read a file, whose header must agree in all but the numbers."""
    row = FORMATS["DICOM"]
    header = row.read(str(path), ReadRequest(header_only=True))
    image = row.read(str(path), ReadRequest())
    assert header[1:] == image[1:]
    assert (header.pixels.shape, header.pixels.dtype) == (image.pixels.shape, image.pixels.dtype)
    assert image.pixels.dtype.isnative
    return image


def draw(bits_allocated, bits_stored, signed, shape=(5, 6), seed=0):
    """Return numbers over the range of the stored bits, with both ends."""
    low = -(2 ** (bits_stored - 1)) if signed else 0
    high = low + 2**bits_stored - 1
    rng = np.random.default_rng(seed)
    dtype = f"{'i' if signed else 'u'}{bits_allocated // 8}"
    x = rng.integers(low, high, shape, dtype=np.int64 if signed else np.uint64, endpoint=True)
    x.flat[:2] = low, high
    return x.astype(dtype), (low, high)


def write_syntax(dataset, path, syntax):
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
        return save(dataset, path)
    if syntax == ExplicitVRBigEndian:
        n_bytes = dataset.BitsAllocated // 8
        data = np.frombuffer(dataset.PixelData, f"u{n_bytes}")
        data = (data.view("u2") if n_bytes == 1 else data).byteswap()
        dataset.PixelData = data.tobytes()
        dataset["PixelData"].VR = "OW"
    options = {"implicit_vr": syntax == ImplicitVRLittleEndian}
    options["little_endian"] = syntax != ExplicitVRBigEndian
    return save(dataset, path, syntax)


BITS = [(8, 8), (8, 6), (16, 10), (16, 12), (16, 16), (32, 20), (32, 32)]
#: pydicom encodes RLE up to 16 bits.
WRITTEN = [
    pytest.param(syntax, bits, id=f"{syntax.keyword}-{bits[0]}-{bits[1]}")
    for syntax in SYNTAXES
    for bits in BITS
    if syntax != RLELossless or bits[0] <= 16
]


@pytest.mark.parametrize(("syntax", "bits"), WRITTEN)
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_stored_bits_and_signs(syntax, bits, signed, interpretation, tmp_path):
    x, full_range = draw(*bits, signed)
    dataset = make(x, BitsStored=bits[1], PhotometricInterpretation=interpretation)
    image = read(write_syntax(dataset, tmp_path / "a.dcm", syntax))
    expected = x.astype(object)
    if interpretation == "MONOCHROME1":
        expected = sum(full_range) - expected
    assert_array_equal(image.pixels, expected.astype(x.dtype))
    assert (image.pixels.dtype, image.full_range, image.unit) == (x.dtype, full_range, None)


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_above_the_stored_ones_are_no_part_of_the_pixel(signed, tmp_path):
    x, full_range = draw(16, 12, signed)
    overlay = np.random.default_rng(1).integers(0, 16, x.shape).astype(np.uint16) << 12
    dirty = (x.view(np.uint16) & 0x0FFF) | overlay
    dataset = make(dirty.view(x.dtype), BitsStored=12)
    image = read(save(dataset, tmp_path / "a.dcm"))
    assert_array_equal(image.pixels, x)
    assert image.full_range == full_range


@pytest.mark.parametrize(
    ("slope", "intercept", "used"),
    [
        (2, -1024, (2, -1024)),
        ("0.25", "7.5", (0.25, 7.5)),
        (-1, 100, (-1, 100)),
        ("", "", (1, 0)),
        ("", -5, (1, -5)),
        (3, "", (3, 0)),
        (None, -5, (1, -5)),
        (3, None, (3, 0)),
        (1, 0, (1, 0)),
        (None, None, (1, 0)),
    ],
)
@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("n_frames", [1, 2])
def test_rescale(slope, intercept, used, interpretation, n_frames, tmp_path):
    x, (low, high) = draw(16, 12, 1, (n_frames, 5, 6)[n_frames == 1 :])
    dataset = make(
        x,
        BitsStored=12,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        PhotometricInterpretation=interpretation,
    )
    image = read(save(dataset, tmp_path / "a.dcm"))
    ends = sorted(end * used[0] + used[1] for end in (low, high))
    expected = x * float(used[0]) + used[1]
    if interpretation == "MONOCHROME1":
        expected = sum(ends) - expected
    assert_array_equal(image.pixels, expected.astype(np.float32))
    assert image.full_range == tuple(ends)
    assert image.pixels.dtype == (np.int16 if used == (1, 0) else np.float32)


@pytest.mark.parametrize(
    ("tags", "unit"),
    [
        ({"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}, "HU"),
        ({"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "HU"}, "HU"),
        ({"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": 0, "RescaleType": "US"}, None),
        ({"Modality": "CT", "RescaleIntercept": 9, "RescaleType": "Z_EFF"}, "Z_EFF"),
        ({"Modality": "CT"}, None),
        ({"Modality": "MR", "RescaleSlope": 2, "RescaleType": "normalized"}, None),
        ({"Modality": "PT", "RescaleSlope": 2, "Units": "BQML"}, "BQML"),
        ({"Modality": "PT", "RescaleSlope": 2, "Units": "GML", "SUVType": "BW"}, "GML BW"),
        ({"Modality": "PT", "Units": "NONE"}, None),
        ({"Modality": "RTDOSE", "DoseGridScaling": "1e-4", "DoseUnits": "GY"}, "Gy"),
        ({"Modality": "RTDOSE", "DoseGridScaling": 2, "DoseUnits": "RELATIVE"}, "relative"),
        (
            {
                "Modality": "RTDOSE",
                "DoseGridScaling": 2,
                "DoseUnits": "GY",
                "DoseType": "EFFECTIVE",
            },
            "Gy EFFECTIVE",
        ),
    ],
)
@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_units(tags, unit, interpretation, tmp_path):
    """Numbers with a physical unit are not inverted: air is -1000 HU in any display."""
    x, ends = draw(16, 16, 0)
    dataset = make(x, PhotometricInterpretation=interpretation, **tags)
    image = read(save(dataset, tmp_path / "a.dcm"))
    slope = float(tags.get("DoseGridScaling", tags.get("RescaleSlope", 1)))
    intercept = tags.get("RescaleIntercept", 0)
    expected = x * slope + intercept
    mapped = tuple(end * slope + intercept for end in ends)
    if unit is None and interpretation == "MONOCHROME1":
        expected = sum(mapped) - expected
    assert_array_equal(image.pixels, expected.astype(np.float32))
    assert (image.unit, image.full_range) == (unit, mapped if unit is None else None)


def test_optical_density_of_an_inverted_film_has_no_unit(tmp_path):
    x, _ = draw(16, 12, 0)
    tags = {"BitsStored": 12, "RescaleSlope": 2, "RescaleIntercept": 10, "RescaleType": "OD"}
    image = read(save(make(x, **tags), tmp_path / "a.dcm"))
    assert (image.unit, image.full_range) == ("OD", None)
    tags["PhotometricInterpretation"] = "MONOCHROME1"
    image = read(save(make(x, **tags), tmp_path / "b.dcm"))
    assert (image.unit, image.full_range) == (None, (10, 8200))
    assert_array_equal(image.pixels, 8210 - (x * 2.0 + 10))


def test_raw_radiographs_differ_from_processed_ones(tmp_path):
    x, _ = draw(16, 12, 0)
    for intent, unit in (("FOR PROCESSING", "raw: FOR PROCESSING"), ("FOR PRESENTATION", None)):
        dataset = make(x, BitsStored=12, Modality="MG", PresentationIntentType=intent)
        image = read(save(dataset, tmp_path / "a.dcm"))
        assert (image.unit, image.full_range) == (unit, (0, 4095))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_point_pixels(dtype, tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(dtype)
    image = read(save(make(x), tmp_path / "a.dcm"))
    assert_array_equal(image.pixels, x)
    assert (image.pixels.dtype, image.full_range) == (dtype, None)
    prefix = "Float" if dtype == np.float32 else "DoubleFloat"
    x[0, 0] = 1e9
    image = read(save(make(x, **{f"{prefix}PixelPaddingValue": 1e9}), tmp_path / "a.dcm"))
    assert image.pixels[0, 0] == x.min()
    with pytest.raises(ValueError, match=r"a\.dcm: floating-point .*MONOCHROME1 in \(0028,0004\)"):
        ImageFiles([save(make(x, PhotometricInterpretation="MONOCHROME1"), tmp_path / "a.dcm")])


@pytest.mark.parametrize("n_frames", [1, 3])
def test_single_bits(n_frames, tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (n_frames, 5, 7)).astype(np.uint8)
    packed = np.packbits(x.ravel(), bitorder="little").tobytes()
    tags = {"BitsAllocated": 1, "BitsStored": 1, "NumberOfFrames": n_frames, "Modality": "SEG"}
    dataset = make(x[0], PixelData=packed + b"\0" * (len(packed) % 2), **tags)
    image = read(save(dataset, tmp_path / "a.dcm"))
    assert_array_equal(image.pixels, x[0] if n_frames == 1 else x)
    assert (image.pixels.dtype, image.full_range) == (np.uint8, (0, 1))


def test_fractional_segments_have_a_range_of_their_own(tmp_path):
    x, _ = draw(8, 8, 0)
    dataset = make(x // 2, SegmentationType="FRACTIONAL", MaximumFractionalValue=127)
    assert read(save(dataset, tmp_path / "a.dcm")).full_range == (0, 127)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("n_frames", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
def test_colours(planar, n_frames, bits, tmp_path):
    x, full_range = draw(bits, bits, 0, (n_frames, 5, 6, 3))
    dataset = make(x if n_frames > 1 else x[0], PlanarConfiguration=planar)
    if planar:
        dataset.PixelData = np.moveaxis(x, -1, 1).tobytes()
    image = read(save(dataset, tmp_path / "a.dcm"))
    expected = np.moveaxis(x, -1, 0)
    assert_array_equal(image.pixels, expected if n_frames > 1 else expected[:, 0])
    assert (image.n_spatial, image.full_range) == (2 + (n_frames > 1), full_range)


def test_ybr_becomes_rgb(tmp_path):
    x, _ = draw(8, 8, 0, (5, 6, 3))
    image = read(save(make(x, PhotometricInterpretation="YBR_FULL"), tmp_path / "a.dcm"))
    y, cb, cr = (x[..., i] - shift for i, shift in enumerate((0.0, 128.0, 128.0)))
    expected = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    assert np.abs(image.pixels - np.clip(expected, 0, 255)).max() <= 0.51


def palette(x, bits=16, n=256, first=0, **tags):
    rng = np.random.default_rng(3)
    tables = rng.integers(0, 2**bits, (n, 3)).astype(np.uint8 if bits == 8 else np.uint16)
    for i, colour in enumerate(("Red", "Green", "Blue")):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [n % 65536, first, bits]
        data = np.ascontiguousarray(tables[:, i]).tobytes()
        tags[f"{colour}PaletteColorLookupTableData"] = data + b"\0" * (len(data) % 2)
    return make(x, PhotometricInterpretation="PALETTE COLOR", **tags), tables


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("n", "first"), [(256, 0), (200, 20), (1000, 0), (65536, 0)])
def test_palettes(bits, n, first, tmp_path):
    """Also tables of 8 bits that are longer than 256, which pydicom 3.0 cuts to bytes."""
    x, _ = draw(16 if n > 256 else 8, 16 if n > 256 else 8, 0)
    dataset, tables = palette(x, bits, n, first)
    image = read(save(dataset, tmp_path / "a.dcm"))
    places = np.clip(x.astype(int) - first, 0, n - 1)
    assert_array_equal(image.pixels, np.moveaxis(tables[places], -1, 0))
    assert (image.pixels.dtype, image.full_range) == (tables.dtype, (0, 2**bits - 1))


def test_palettes_in_big_endian_files(tmp_path):
    x, _ = draw(16, 16, 0)
    for bits in (8, 16):
        dataset, tables = palette(x, bits, 1000)
        for colour in ("Red", "Green", "Blue"):
            name = f"{colour}PaletteColorLookupTableData"
            words = np.frombuffer(dataset[name].value, np.uint16).byteswap()
            dataset[name].value = words.tobytes()
        image = read(write_syntax(dataset, tmp_path / "a.dcm", ExplicitVRBigEndian))
        expected = np.moveaxis(tables[np.clip(x, 0, 999)], -1, 0)
        assert_array_equal(image.pixels, expected)


def test_segmented_palette(tmp_path):
    x, _ = draw(8, 8, 0)
    dataset, _ = palette(x, 16, 256)
    segments = np.array([0, 2, 100, 200, 1, 254, 25600], np.uint16)  # two values, then a line
    table = np.concatenate([[100, 200], np.around(np.linspace(300, 25600, 254))])
    for colour in ("Red", "Green", "Blue"):
        del dataset[f"{colour}PaletteColorLookupTableData"]
        setattr(dataset, f"Segmented{colour}PaletteColorLookupTableData", segments.tobytes())
    image = read(save(dataset, tmp_path / "a.dcm"))
    assert_array_equal(image.pixels[2], table[x])


def test_transparent_palettes_are_refused(tmp_path):
    x, _ = draw(8, 8, 0)
    for alpha, is_read in (([255] * 256, True), ([255] * 255 + [0], False)):
        dataset, _ = palette(x, 8, AlphaPaletteColorLookupTableData=bytes(alpha))
        path = save(dataset, tmp_path / "a.dcm")
        if is_read:
            assert read(path).pixels.shape == (3, 5, 6)
        else:
            with pytest.raises(ValueError, match=r"transparent, as \(0028,1204\).*reader="):
                ImageFiles([path])


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("first", [0, -100, 50])
@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_modality_tables(bits, first, interpretation, tmp_path):
    x, _ = draw(16, 10, first < 0)
    table = np.random.default_rng(2).integers(0, 2**bits, 300).astype(np.uint16)
    table[:2] = 0, 2**bits - 1
    lut = item(LUTDescriptor=[300, first, bits], ModalityLUTType="US", LUTData=table.tolist())
    dataset = make(
        x,
        BitsStored=10,
        ModalityLUTSequence=[lut],
        PhotometricInterpretation=interpretation,
    )
    dataset.ModalityLUTSequence[0]["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    dataset.ModalityLUTSequence[0]["LUTData"].VR = "US"
    image = read(save(dataset, tmp_path / "a.dcm"))
    expected = table[np.clip(x.astype(int) - first, 0, 299)]
    if interpretation == "MONOCHROME1":
        expected = 2**bits - 1 - expected
    assert_array_equal(image.pixels, expected)
    assert (image.full_range, image.unit) == ((0, 2**bits - 1), None)
    lut.ModalityLUTType = "HU"
    image = read(save(dataset, tmp_path / "a.dcm"))
    assert (image.full_range, image.unit) == (None, "HU")


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("dtype", "bits", "value", "limit"),
    [
        (np.uint16, 16, 63536, None),  # -2000 in a file of unsigned numbers
        (np.int16, 16, -2000, None),
        (np.uint16, 12, 63536, None),  # bits that no pixel has
        (np.int16, 12, -32768, None),
        (np.uint16, 12, 4095, 4000),
        (np.uint16, 12, 4000, 4095),
        (np.int16, 16, -3000, -2500),
    ],
)
@pytest.mark.parametrize("n_frames", [1, 2])
def test_padding_gets_the_least_of_the_other_values(
    interpretation, dtype, bits, value, limit, n_frames, tmp_path
):
    x = np.random.default_rng(0).integers(10, 2000, (n_frames, 5, 6)).astype(dtype)
    mask = np.zeros(x.shape, bool)
    mask[:, 0] = mask[:, :, 0] = True
    x[mask] = value
    if limit is not None:
        x[0, 0, 3:] = limit
    tags = {"PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
    dataset = make(
        x if n_frames > 1 else x[0],
        BitsStored=bits,
        RescaleSlope=2,
        RescaleIntercept=-1024,
        PhotometricInterpretation=interpretation,
        **tags,
    )
    for name in [name for name in tags if name in dataset]:
        dataset[name].VR = "SS" if value < 0 else "US"
    image = read(save(dataset, tmp_path / "a.dcm"))
    expected = x * 2.0 - 1024
    if interpretation == "MONOCHROME1":
        signed = np.dtype(dtype).kind == "i"
        expected = 2 * (-1 if signed else 2**bits - 1) - 2048 - expected
    expected[mask] = expected[~mask].min()
    assert_array_equal(image.pixels, expected if n_frames > 1 else expected[0])


def test_padding_of_an_empty_image_stays(tmp_path):
    x = np.full((4, 5), -2000, np.int16)
    image = read(save(make(x, PixelPaddingValue=-2000), tmp_path / "a.dcm"))
    assert_array_equal(image.pixels, x)


def test_frames_have_slopes_of_their_own(tmp_path):
    x, (_, high) = draw(16, 16, 0, (3, 5, 6))
    pairs = [(1, 0), ("0.5", 10), (2, -5)]
    frames = [
        placed(
            i,
            PixelValueTransformationSequence={"RescaleSlope": a, "RescaleIntercept": b},
        )
        for i, (a, b) in enumerate(pairs)
    ]
    image = read(save(enhanced(x, frames), tmp_path / "a.dcm"))
    expected = [plane * float(a) + b for plane, (a, b) in zip(x, pairs, strict=True)]
    assert_array_equal(image.pixels, np.asarray(expected, np.float32))
    assert (image.full_range, image.spacing) == ((-5, 2 * high - 5), (1, 2, 3))
    frames[2]["PixelValueTransformationSequence"]["RescaleType"] = "HU"
    with pytest.raises(ValueError, match=r"one \(0028,1054\) RescaleType; got , HU"):
        ImageFiles([save(enhanced(x, frames), tmp_path / "a.dcm")])
    shared = {"PixelValueTransformationSequence": {"RescaleSlope": 3, "RescaleIntercept": ""}}
    image = read(save(enhanced(x, [placed(i) for i in range(3)], shared), tmp_path / "a.dcm"))
    assert_array_equal(image.pixels, x * np.float32(3))


REFUSED = {
    "slope 0": ({"RescaleSlope": 0}, r"\(0028,1053\) RescaleSlope"),
    "two slopes": ({"RescaleSlope": [1, 2]}, r"\(0028,1053\) RescaleSlope must be one number"),
    "no scaling of doses": ({"Modality": "RTDOSE"}, r"\(3004,000E\) DoseGridScaling"),
    "high bit": ({"BitsStored": 12, "HighBit": 15}, r"\(0028,0102\) HighBit must be .*11; got 15"),
    "stored bits": ({"BitsStored": 17}, r"\(0028,0101\) BitsStored must be at most .*16; got 17"),
    "no stored bits": ({"BitsStored": None}, r"\(0028,0101\) BitsStored must be an integer"),
    "no sign": ({"PixelRepresentation": None}, r"\(0028,0103\) PixelRepresentation"),
    "allocated bits": ({"BitsAllocated": 12, "BitsStored": 12}, r"\(0028,0100\) BitsAllocated"),
    "no rows": ({"Rows": None}, r"\(0028,0010\) Rows is missing"),
    "rows 0": ({"Rows": 0}, r"\(0028,0010\) Rows must be"),
    "fewer rows": ({"Rows": 3}, r"\(7FE0,0010\) PixelData must have 36 bytes.*got 60"),
    "more rows": ({"Rows": 6}, r"\(7FE0,0010\) PixelData must have 72 bytes.*got 60"),
    "more frames": ({"NumberOfFrames": 9}, r"\(7FE0,0010\) PixelData must have 540.*got 60"),
    "no pixels": ({"PixelData": None}, r"\(7FE0,0010\) PixelData is missing.*Secondary Capture"),
    "supplement": ({"PixelPresentation": "COLOR"}, r"\(0008,9205\) PixelPresentation = COLOR"),
    "contradiction": ({"PresentationLUTShape": "INVERSE"}, r"\(2050,0020\).*INVERSE.*MONOCHROME2"),
    "part": ({"ConcatenationUID": "1.2.3"}, r"\(0020,9161\) ConcatenationUID"),
    "tiles": ({"TotalPixelMatrixRows": 100}, r"tiles .*\(0048,0007\) TotalPixelMatrixRows = 100"),
    "mosaic": ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, r"MOSAIC in \(0008,0008\)"),
    "no samples": ({"SamplesPerPixel": 3}, r"\(0028,0002\) SamplesPerPixel must be 1 .*got 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_tags(case, tmp_path):
    tags, message = REFUSED[case]
    path = save(make(np.arange(30, dtype=np.uint16).reshape(5, 6), **tags), tmp_path / "a.dcm")
    with pytest.raises(ValueError, match=rf"cannot read .*a\.dcm: .*{message}"):
        ImageFiles([path])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", r"stands with a length.*RLE"),
        (b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0", r"no decoder for \(0002,0010\)"),
        (b"0.12345678", b"inf       ", r"\(0028,1053\) RescaleSlope must be finite numbers"),
        (b"0.12345678", b"one half  ", r"\(0028,1053\) RescaleSlope must be numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_refused_bytes(old, new, message, tmp_path):
    x = np.arange(30, dtype=np.uint16).reshape(5, 6)
    path = save(make(x, RescaleSlope="0.12345678", RescaleIntercept=0), tmp_path / "a.dcm")
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    with pytest.raises(ValueError, match=rf"cannot read .*a\.dcm: .*{message}"):
        ImageFiles([path])


@pytest.mark.parametrize(
    "interpretation",
    ["YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "CMYK", "ARGB", "YBR_ICT", "YBR_RCT", "XYB", ""],
)
def test_other_colours_are_refused(interpretation, tmp_path):
    x, _ = draw(8, 8, 0, (4, 6, 3))
    dataset = make(x, PhotometricInterpretation=interpretation)
    with pytest.raises(ValueError, match=r"a\.dcm: .*\(0028,0004\) PhotometricInterpretation.*RGB"):
        ImageFiles([save(dataset, tmp_path / "a.dcm")])


def test_colours_of_other_kinds_are_refused(tmp_path):
    x, _ = draw(16, 16, 0, (4, 6, 3))
    for tags, message in (
        ({"PhotometricInterpretation": "YBR_FULL"}, "must have 8 bits"),
        ({"PlanarConfiguration": None}, r"\(0028,0006\) PlanarConfiguration must be 0 or 1"),
        ({"PixelRepresentation": 1}, r"colours must be unsigned; got \(0028,0103\)"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageFiles([save(make(x, **tags), tmp_path / "a.dcm")])


def test_padding_after_the_pixels_is_zero(tmp_path):
    x, _ = draw(16, 16, 0)
    for end, is_read in ((b"\0" * 12, True), (b"\0" * 11 + b"\1", False), (b"\0" * 14, False)):
        path = save(make(x, PixelData=x.tobytes() + end), tmp_path / "a.dcm")
        if is_read:
            assert_array_equal(read(path).pixels, x)
        else:
            with pytest.raises(ValueError, match=r"\(7FE0,0010\) PixelData must have 60 bytes"):
                np.asarray(ImageFiles([path]))


def test_shipped_files_read_as_pydicom_reads_them():
    for name in ("SC_rgb_jpeg_dcmtk", "examples_jpeg2k", "SC_ybr_full_422_uncompressed"):
        path = get_testdata_file(f"{name}.dcm", download=False)
        expected = np.moveaxis(pydicom.dcmread(path).pixel_array, -1, 0)
        assert_array_equal(read(path).pixels, expected)
    for name in ("MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "MR_small_padded"):
        image = read(get_testdata_file(f"{name}.dcm", download=False))
        expected = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False)).pixel_array
        assert_array_equal(image.pixels, expected)
    assert read(get_testdata_file("MR_small_jp2klossless.dcm", download=False)).unit is None
