"""NIfTI."""

import gzip
import itertools
import struct
import sys
import tracemalloc
import zlib

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import cross_val_score

from skimbal import CNN2DClassifier, CNN3DClassifier
from skimbal.datasets import load_image_folder
from skimbal.exceptions import ParameterError
from skimbal.images import FORMATS, ImageFiles, ReadRequest
from tests.images.data import read_one, save_nifti
from tests.plain import plain


def read_row(path, **request):
    """Read a file by the row of its format."""
    return FORMATS["NIfTI"].read(str(path), ReadRequest(**request))


def check_against_nibabel(path):
    """Compare an image, its header and its spacing with nibabel."""
    image, head = read_row(path), read_row(path, header_only=True)
    assert (head.pixels.shape, head.pixels.dtype) == (image.pixels.shape, image.pixels.dtype)
    assert head[1:] == image[1:]
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    expected = np.asanyarray(canonical.dataobj)
    if expected.ndim > 3:
        expected = np.moveaxis(expected.reshape(*expected.shape[:3], -1), 3, 0)
    assert_allclose(image.pixels, expected, rtol=1e-6)
    assert_allclose(image.spacing, nibabel.affines.voxel_sizes(canonical.affine), rtol=1e-5)
    return image


TURNS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def affine_of(order, flips, sizes=(1.0, 2.0, 3.0), tilt=(0.0, 0.0, 0.0)):
    """Return an affine that sends voxel axes to axes of space, with a rotation about each."""
    affine = np.zeros((4, 4))
    affine[list(order), range(3)] = np.multiply(flips, sizes)
    affine[:3, :3] = nibabel.eulerangles.euler2mat(*tilt) @ affine[:3, :3]
    affine[:, 3] = 10, -20, 30, 1
    return affine


@pytest.mark.parametrize(("order", "flips"), TURNS)
def test_all_orientations_are_those_of_nibabel(order, flips, tmp_path):
    pixels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = save_nifti(tmp_path / "a.nii", pixels, affine_of(order, flips))
    check_against_nibabel(path)


DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@st.composite
def nifti_images(draw):
    """Draw an image of nibabel of any orientation, dtype, byte order and scaling."""
    order, flips = draw(st.sampled_from(TURNS))
    angle, size = st.floats(-0.6, 0.6), st.floats(0.125, 10, width=32)
    affine = affine_of(order, flips, draw(st.tuples(*[size] * 3)), draw(st.tuples(*[angle] * 3)))
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3)) + draw(
        st.sampled_from([(), (1,), (3,), (1, 2), (2, 1)])
    )
    dtype = draw(st.sampled_from(DTYPES))
    pixels = draw(st.randoms(use_true_random=False)).choices(range(100), k=int(np.prod(shape)))
    cls, header = draw(
        st.sampled_from(
            [
                (nibabel.Nifti1Image, nibabel.Nifti1Header),
                (nibabel.Nifti2Image, nibabel.Nifti2Header),
            ]
        )
    )
    blank = header(endianness=draw(st.sampled_from("<>")))
    image = cls(np.reshape(pixels, shape).astype(dtype), affine, blank, dtype=dtype)
    image.header.set_slope_inter(*draw(st.sampled_from([(1, 0), (2, 0), (0.5, -3), (1, -1024)])))
    if draw(st.booleans()):
        image.set_sform(None, 0)
        image.set_qform(affine, 1)
    return image


@given(nifti_images(), st.sampled_from([".nii", ".nii.gz"]))
def test_images_are_those_of_nibabel(tmp_path_factory, image, suffix):
    path = tmp_path_factory.mktemp("nifti") / f"a{suffix}"
    nibabel.save(image, path)
    check_against_nibabel(path)


def changed(path, **fields):
    """Change fields in the header of a file of NIfTI-1."""
    with open(path, "r+b") as file:
        header = nibabel.Nifti1Header(file.read(348), check=False)
        for name, value in fields.items():
            header[name] = value
        file.seek(0)
        file.write(header.binaryblock)
    return path


@pytest.mark.parametrize("slope", [0, np.nan, np.inf])
def test_a_slope_that_states_nothing_changes_nothing(tmp_path, slope):
    pixels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = changed(save_nifti(tmp_path / "a.nii", pixels), scl_slope=slope, scl_inter=np.nan)
    assert_array_equal(read_one(path), pixels)
    assert read_one(path).dtype == np.int16
    with pytest.raises(ValueError, match=r"a\.nii: .*invalid intercept nan"):
        read_one(changed(path, scl_slope=2))


def test_voxel_sizes_are_of_the_affine(tmp_path):
    affine = np.diag([1.0, 2, 3, 1])
    path = save_nifti(tmp_path / "a.nii", np.zeros((4, 5, 6), np.uint8), affine)
    assert read_one(changed(path, pixdim=[1, 0, 0, 0, 1, 1, 1, 1]), spacing=1.0).shape == (
        4,
        10,
        18,
    )
    changed(path, pixdim=[1, -1, 2, 3, 1, 1, 1, 1])
    assert read_one(path, spacing=1.0).shape == (4, 10, 18)
    changed(path, pixdim=[1, 9, 9, 9, 1, 1, 1, 1])
    with pytest.warns(UserWarning, match=r"1 of 1 file,.*a\.nii: pixdim and sform.*sform is used"):
        assert read_one(path, spacing=1.0).shape == (4, 10, 18)
    # Without a sform, pixdim are the sizes of the qform.
    changed(path, sform_code=0, qform_code=1, pixdim=[1, 3, 2, 1, 1, 1, 1, 1])
    assert read_one(path, spacing=1.0).shape == (12, 10, 6)


@pytest.mark.parametrize(
    ("unit", "shape"),
    [("meter", (4, 6, 8)), ("mm", (4, 6, 8)), ("micron", (4, 6, 8)), ("unknown", (4, 6, 8))],
)
def test_units(tmp_path, unit, shape):
    mm = {"meter": 0.001, "micron": 1000}.get(unit, 1)
    affine = np.diag([2 * mm, 2 * mm, 2 * mm, 1])
    path = save_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8), affine, unit=unit)
    assert read_one(path, spacing=1).shape == shape


def test_an_unknown_code_of_a_unit_is_refused_by_its_name(tmp_path):
    path = save_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8), np.eye(4))
    changed(path, xyzt_units=7)
    with pytest.raises(ValueError, match=r"a\.nii: xyzt_units .*got the code 7"):
        ImageFiles([path])


def test_a_header_that_contradicts_itself(tmp_path, rng):
    pixels = rng.integers(0, 100, (2, 3, 4), dtype=np.uint8)
    image = nibabel.Nifti1Image(pixels, np.diag([-1, -1, 1, 1]))
    image.set_qform(np.eye(4), 1)
    image.set_sform(np.diag([-1, -1, 1, 1]), 2)
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.warns(UserWarning, match="qform and sform.*different axes"):
        assert_array_equal(read_one(tmp_path / "a.nii"), pixels[::-1, ::-1])
    nibabel.save(nibabel.Nifti1Image(pixels, None), tmp_path / "b.nii")
    paths = [tmp_path / "b.nii"] * 3
    with pytest.warns(UserWarning, match=r"^3 of 3 files, .*b\.nii: .* no orientation") as caught:
        X = ImageFiles(paths)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    canonical = nibabel.as_closest_canonical(nibabel.load(tmp_path / "b.nii"))
    assert_array_equal(X[0], canonical.get_fdata())
    path = save_nifti(tmp_path / "c.nii", pixels)
    changed(path, qform_code=1, quatern_b=9, quatern_c=9, quatern_d=9)
    with pytest.warns(UserWarning, match="qform in the header is not valid"):
        assert_array_equal(read_one(path), pixels)
    with pytest.raises(ValueError, match=r"c\.nii: "):
        read_one(changed(path, sform_code=0))


@pytest.mark.parametrize(
    "rows",
    [
        {"srow_x": [0, 0, 0, 0]},
        {"srow_x": [np.nan, 0, 0, 0]},
        {"srow_y": [0, np.inf, 0, 0]},
        {"srow_x": [0, 1, 0, 0]},
        {"srow_x": [1, 1, 0, 0], "srow_y": [1, 1, 0, 0]},
    ],
)
def test_affines_that_lead_nowhere(tmp_path, rows):
    path = save_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(ValueError, match=r"a\.nii: the affine in its header must map voxels"):
        ImageFiles([changed(path, **rows)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": [3, -2, 3, 4, 1, 1, 1, 1]}, "must not be negative"),
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "at most 536870912 pixels"),
        ({"dim": [7, 2000, 2000, 2000, 2000, 2000, 2000, 2000]}, "at most 536870912 pixels"),
        ({"dim": [3, 0, 3, 4, 1, 1, 1, 1]}, r"got the shape \(0, 3, 4\)"),
        *[
            ({"dim": [n, 2, 3, 4, 1, 1, 1, 1]}, rf"dim\[0\] .*1 to 7 axes; got {n}\.")
            for n in (0, 8, 9, -1, -3, 1000, 32767, -32768)
        ],
        ({"dim": [768, 512, 768, 1024, 256, 256, 256, 256]}, "got 768.*byte order.* be 3"),
        ({"sizeof_hdr": 1543569408}, "got 768.*byte order.* be 3"),
        ({"dim": [1, 24, 1, 1, 1, 1, 1, 1]}, r"got shape \(24,\)"),
        ({"dim": [3, 2, 3, 5, 1, 1, 1, 1]}, "must have 382 bytes.* got 376"),
        ({"vox_offset": 1e30}, "vox_offset"),
        ({"vox_offset": np.nan}, "vox_offset|cannot convert"),
        ({"vox_offset": 0}, "vox_offset"),
        ({"vox_offset": -400}, "offset"),
        ({"datatype": 1234}, "datatype in its header .*code 1234"),
        ({"datatype": 0}, "datatype in its header .*code 0"),
        ({"datatype": 1}, "datatype in its header .*code 1"),
        ({"datatype": 1536}, "code 1536|64 bits"),
        ({"datatype": 32}, "bytes|real numbers"),
        ({"magic": b"ni1"}, r"\.hdr and \.img"),
        ({"magic": b""}, r"\.hdr and \.img.*Analyze.*nibabel\.save"),
        ({"magic": b"abc"}, "not a NIfTI file"),
        ({"sizeof_hdr": 349}, "not a NIfTI file"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_broken_headers(tmp_path, fields, message, suffix):
    path = changed(save_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8)), **fields)
    if suffix == ".nii.gz":
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
        message = message.replace("must have 382 bytes.* got 376", "must have 382 bytes")
    for read in (ImageFiles, lambda paths: ImageFiles(paths, on_error="skip")):
        with pytest.raises(ValueError, match=rf"a\.nii(\.gz)?.*({message})"):
            np.asarray(read([path]))


@pytest.fixture(params=["isal", "zlib"])
def library(request, monkeypatch):
    """Inflate by isal, or without it by zlib."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    else:
        pytest.importorskip("isal")


def noise():
    return np.random.default_rng(0).integers(0, 256, (20, 20, 20), dtype=np.uint8)


def damage(data, kind):
    raw = gzip.decompress(data)
    return {
        "checksum": data[:-8] + bytes([data[-8] ^ 1]) + data[-7:],
        "length": data[:-1] + bytes([data[-1] ^ 1]),
        "no trailer": data[:-8],
        "half a trailer": data[:-3],
        "half": data[: len(data) // 2],
        "few bytes": data[:100],
        "a byte": data[:4000] + bytes([data[4000] ^ 255]) + data[4001:],
        "voxels missing": gzip.compress(raw[:-1]),
        "bomb": gzip.compress(raw + bytes(2**22)),
    }[kind]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "kind",
    [
        *("checksum", "length", "no trailer", "half a trailer", "half", "few bytes", "a byte"),
        *("voxels missing", "bomb"),
    ],
)
def test_damaged_gzip(tmp_path, kind):
    path = save_nifti(tmp_path / "a.nii.gz", noise())
    path.write_bytes(damage(path.read_bytes(), kind))
    words = r"gzip data are damaged|must have \d+ bytes|must hold \d+ bytes|not a NIfTI"
    with pytest.raises(ValueError, match=rf"a\.nii\.gz: .*({words})"):
        np.asarray(ImageFiles([path]))


@pytest.mark.usefixtures("library")
def test_layouts_of_gzip(tmp_path):
    pixels = noise()
    raw = save_nifti(tmp_path / "a.nii", pixels).read_bytes()
    stream = zlib.compressobj(wbits=31)
    flushed = b"".join(
        stream.compress(raw[i : i + 999]) + stream.flush(zlib.Z_SYNC_FLUSH)
        for i in range(0, len(raw), 999)
    )
    contents = {
        "parts": b"".join(gzip.compress(raw[i : i + 1000]) for i in range(0, len(raw), 1000)),
        "two parts": gzip.compress(raw[:3000]) + gzip.compress(raw[3000:]),
        "zeros behind": gzip.compress(raw) + bytes(100),
        "zeros in the data": gzip.compress(raw + bytes(100)),
        "flushed": flushed + stream.flush(),
        "stored": gzip.compress(raw, 0),
        "name": b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 3000 + b"\0" + gzip.compress(raw)[10:],
        "not compressed": raw,
    }
    for content in contents.values():
        (tmp_path / "b.nii.gz").write_bytes(content)
        assert_array_equal(read_one(tmp_path / "b.nii.gz"), pixels)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("n_more", [1, 40, 5000])
def test_a_file_that_goes_on_behind_its_voxels_is_refused(tmp_path, n_more):
    """A header that states too small a shape would give some of the voxels, in a wrong order."""
    raw = save_nifti(tmp_path / "a.nii", noise()).read_bytes() + b"m" * n_more
    parts = b"".join(gzip.compress(raw[i : i + 1000]) for i in range(0, len(raw), 1000))
    for name, content in {
        "a.nii": raw,
        "b.nii.gz": gzip.compress(raw),
        "c.nii.gz": parts,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}.*must end with its voxels"):
            read_one(tmp_path / name)


def test_little_is_inflated_of_a_bomb(tmp_path):
    """Of 256 MiB of zeros, a header of a few voxels needs next to nothing."""
    tracemalloc = pytest.importorskip("tracemalloc")
    raw = save_nifti(tmp_path / "a.nii", noise()).read_bytes()
    stream = zlib.compressobj(wbits=31)
    zeros = bytes(2**24)
    bomb = stream.compress(raw) + b"".join(stream.compress(zeros) for _ in range(16))
    (tmp_path / "a.nii.gz").write_bytes(bomb + stream.flush())
    X = ImageFiles([tmp_path / "a.nii.gz"])
    tracemalloc.start()
    with pytest.raises(ValueError, match="got many more"):
        np.asarray(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_colours_of_nifti_are_channels(tmp_path, rng):
    for names in ("RGB", "RGBA"):
        pixels = rng.integers(0, 256, (3, 4, 5, len(names)), dtype=np.uint8)
        dtype = np.dtype([(name, "u1") for name in names])
        path = save_nifti(
            tmp_path / "a.nii.gz", pixels.view(dtype)[..., 0], affine_of((1, 0, 2), (1, 1, -1))
        )
        image = check_colours(path)
        assert_array_equal(image.pixels, np.moveaxis(pixels, 3, 0).transpose(0, 2, 1, 3)[..., ::-1])


def check_colours(path):
    image, head = read_row(path), read_row(path, header_only=True)
    assert (head.pixels.shape, head.pixels.dtype) == (image.pixels.shape, np.uint8)
    assert (image.n_spatial, image.full_range) == (3, (0, 255))
    return image


def test_one_slice_is_an_image_of_two_axes(tmp_path, rng):
    paths = []
    for i in range(8):
        pixels = rng.random((9, 10, 1), np.float32)
        paths.append(save_nifti(tmp_path / f"{i}.nii", pixels, affine_of((0, 2, 1), (-1, 1, 1))))
    X = ImageFiles(paths)
    assert (X.shape, X.n_spatial) == ((8, 9, 10), 2)
    canonical = nibabel.as_closest_canonical(nibabel.load(paths[0])).get_fdata()
    assert canonical.shape == (9, 1, 10)
    assert_array_equal(X[0], canonical[:, 0])
    assert ImageFiles(paths, spacing=1).shape == (8, 9, 20)
    assert ImageFiles(paths, spacing=(1, 1)).shape == (8, 9, 20)
    assert ImageFiles(paths, size=(9, 4, 10)).shape == (8, 9, 4, 10)
    clf = plain(CNN2DClassifier, max_epochs=1, module="small").fit(paths, [0, 1] * 4)
    assert clf.input_shape_ == (1, 9, 10)
    volume = save_nifti(tmp_path / "v.nii", np.zeros((9, 10, 11), np.float32))
    with pytest.raises(ParameterError, match=r"size must be three numbers.*0\.nii.*v\.nii"):
        ImageFiles([*paths, volume], size=8)
    assert ImageFiles([*paths, volume], size=(8, 8, 8)).shape == (9, 8, 8, 8)


@pytest.mark.slow
def test_flat_nifti_is_turned_as_a_slice(tmp_path, rng):
    pixels = rng.integers(0, 100, (6, 7), dtype=np.uint8)
    for order, flips in TURNS:
        affine = affine_of(order, flips)
        flat = save_nifti(tmp_path / "a.nii", pixels, affine)
        deep = save_nifti(tmp_path / "b.nii", pixels[..., None], affine)
        assert_array_equal(read_one(flat), read_one(deep))
        options = {"spacing": (1.5, 0.5)}
        assert_array_equal(read_one(flat, **options), read_one(deep, **options))
        assert ImageFiles([flat]).n_spatial == 2


def test_pairs_are_refused_with_a_way_out(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(np.zeros((3, 4, 5), np.uint8), np.eye(4)), tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        with pytest.raises(ValueError, match=rf"{name}: .*pair of files.*nibabel.*reader="):
            ImageFiles([tmp_path / name])
    X = ImageFiles([tmp_path / "a.img"], reader=lambda path: nibabel.load(path).get_fdata())
    assert X.shape == (1, 3, 4, 5)


def test_the_size_of_the_header_is_that_of_its_version(tmp_path):
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti2Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), path)
    assert_array_equal(read_one(path), np.ones((3, 4, 5)))
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack("<q", 2**62)  # dim[0]
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.nii"):
        ImageFiles([path])
    data[16:32] = struct.pack("<qq", 3, 2**61)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.nii.*at most 536870912 pixels"):
        ImageFiles([path])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volumes_of_nifti_are_turned_to_ras(suffix, tmp_path, rng):
    pixels = rng.integers(0, 100, (3, 4, 5), dtype=np.int16)
    # Axes to the left, up and to the front, of 1, 2 and 3 mm: RAS has them as 0, 2, 1.
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 3, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    path = save_nifti(tmp_path / f"a{suffix}", pixels, affine)
    image = read_one(path)
    assert_array_equal(image, pixels[::-1].transpose(0, 2, 1))
    assert image.dtype == np.int16
    assert_array_equal(image, nibabel.as_closest_canonical(nibabel.load(path)).get_fdata())
    assert ImageFiles([path], spacing=(1, 1, 1)).shape == (1, 3, 15, 8)


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (3, 4, 5, 1, 2)])
def test_fourth_axis_of_nifti_is_channels(shape, tmp_path, rng):
    pixels = rng.normal(size=shape).astype(np.float32)
    path = save_nifti(tmp_path / "a.nii.gz", pixels)
    assert_array_equal(read_one(path), np.moveaxis(pixels.reshape(3, 4, 5, 2), 3, 0))
    assert read_one(path, channels=2, size=(2, 2, 2)).shape == (2, 2, 2, 2)
    one = save_nifti(tmp_path / "b.nii.gz", pixels.reshape(3, 4, 5, 2)[..., :1])
    assert read_one(one).shape == (1, 3, 4, 5)


def test_scaling_of_nifti_is_applied(tmp_path):
    raw = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(raw, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    image = nibabel.Nifti1Image(raw * 0.5 - 3, np.eye(4), image.header)
    nibabel.save(image, tmp_path / "a.nii")
    read = read_one(tmp_path / "a.nii")
    assert read.dtype == np.float32
    assert_allclose(read, raw * 0.5 - 3, atol=1e-3)


def test_flat_nifti(tmp_path, rng):
    pixels = rng.integers(0, 100, (6, 7), dtype=np.uint8)
    assert_array_equal(read_one(save_nifti(tmp_path / "a.nii", pixels)), pixels)


def test_units_of_nifti(tmp_path):
    affine = np.diag([2e3, 1e3, 1e3, 1])
    path = save_nifti(tmp_path / "a.nii", np.zeros((4, 4, 4), np.uint8), affine, unit="micron")
    assert ImageFiles([path], spacing=(1, 1, 1)).shape == (1, 8, 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["resample", "crop"])
def test_hippocampi_from_files_to_scores(resize, data_dir):
    """From a folder of real NIfTI files, of 87 shapes and two dtypes, to a cross-validation."""
    root = data_dir / "nifti_hippocampus"
    columns = {"path_column": "file", "label_column": "low_volume_15pct"}
    with pytest.raises(ValueError, match=r"size.*hippocampus_001\.nii\.gz has \(35, 51"):
        load_image_folder(root / "images", labels=root / "labels.csv", **columns)
    data = load_image_folder(
        root / "images",
        labels=root / "labels.csv",
        **columns,
        size=(32, 48, 32),
        resize=resize,
        cache="memory",
        intensity="stored",  # some are in bytes
    )
    assert data.X.shape == (120, 32, 48, 32)
    assert np.unique(data.y, return_counts=True)[1].tolist() == [100, 20]
    clf = plain(CNN3DClassifier, max_epochs=2, batch_size=20, sampler="balanced", random_state=0)
    clf.set_params(net={"module__width": 4, "iterator_train__num_workers": 2})
    scores = cross_val_score(clf, data.X, data.y, cv=2, scoring="balanced_accuracy")
    assert np.isfinite(scores).all()
    # The same, bit for bit, as from an array in memory.
    values = np.asarray(data.X)
    assert_array_equal(
        scores, cross_val_score(clf, values, data.y, cv=2, scoring="balanced_accuracy")
    )


def test_size_in_a_compressed_file_takes_no_memory(tmp_path):
    """The header of a file of few bytes may state as many voxels as max_pixels allows."""
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), np.float64))
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[42:48] = np.array([512, 512, 512], "<i2").tobytes()
    path.write_bytes(gzip.compress(data))
    X = ImageFiles([path])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a\.nii\.gz.* must have \d+ bytes"):
            X[0]
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
