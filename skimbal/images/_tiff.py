"""TIFF, of one page or more, with the axes that its metadata state."""

import math
import os
import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from xml.etree import ElementTree

import numpy as np

from skimbal.images._reading import DecodedImage, ReadRequest, header_array, import_reader
from skimbal.images._tiff_pixels import (
    COMPRESSIONS,
    DEFLATE,
    LZMA,
    PILLOW_BYTES,
    PILLOW_PAGES,
    REMEDY,
    Stack,
    dtype_of,
    name_of,
    read_pages,
)
from skimbal.images._viewing import Samples, turn, turned_size

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

__all__ = ["read_tiff"]

#: Kinds of TIFF whose metadata name the axes, as tifffile calls them.
_WITH_AXES = {
    *("shaped", "ome", "imagej", "lsm", "stk", "fluoview", "mmstack", "ndtiff", "sis"),
    *("scanimage", "mdgel"),
}
#: Tags that decide about the pixels, the axes or the distances.
_NEEDED = {
    *(254, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 282, 283, 284, 296, 317),
    *(320, 322, 323, 324, 325, 338, 339, 530, 32997, 32998),
}
#: Names of photometric interpretations.
_PHOTOMETRIC = {
    **{0: "min-is-white", 1: "min-is-black", 2: "RGB", 3: "palette", 4: "transparency mask"},
    **{5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "colour filter array"},
    **{32844: "LogL", 32845: "LogLuv", 34892: "linear raw", 51177: "depth map"},
}
_GREY, _RGB, _PALETTE, _BY_PILLOW = (0, 1), 2, 3, (5, 6, 8)
_MM = {
    **{"nm": 1e-6, "µm": 1e-3, "μm": 1e-3, "\\u00b5m": 1e-3, "um": 1e-3, "micron": 1e-3},
    **{"microns": 1e-3, "micrometer": 1e-3, "mm": 1.0, "millimeter": 1.0, "cm": 10.0},
    **{"centimeter": 10.0, "m": 1000.0, "in": 25.4, "inch": 25.4},
}


class _Form(NamedTuple):
    """The form of the pixels of a page."""

    samples: Samples
    dtype: np.dtype
    full_range: tuple[float, float] | None
    render: Callable[[np.ndarray], np.ndarray]
    is_by_pillow: bool = False


def read_tiff(path: str, request: ReadRequest) -> DecodedImage:
    """Read the one image of a file: pages are slices, unless the metadata name other axes."""
    tifffile = import_reader("tifffile")
    with open(path, "rb") as file:
        listed = _list_tags(file)
        try:
            tif = tifffile.TiffFile(path)
        except tifffile.TiffFileError as error:
            raise ValueError(f"tifffile cannot read it: {error}") from error
        with tif:
            stack = _stack(tif, request, set(listed))
            page = stack.pages[0]
            for part in stack.pages:
                _check_tags(part, listed)
            request.check_size(stack.shape)
            form = _form(page)
            order, n_spatial = _order(stack, form)
            samples = form.samples
            if "C" in stack.axes and stack.shape[stack.axes.index("C")] > 1:
                samples = Samples(0, stack.shape[stack.axes.index("C")])
            orientation = int(page.tags.valueof(274, 1))
            if request.header_only:
                kept = [stack.shape[i] for i in order[-n_spatial:]]
                size = (*kept[:-2], *turned_size((kept[-2], kept[-1]), orientation))
                n = samples.n_asked(request.channels)
                pixels = header_array((n, *size) if n > 1 else size, form.dtype)
            else:
                pixels = read_pages(file, path, stack, form.is_by_pillow)
                pixels = pixels.transpose(order)
                pixels = pixels.reshape(-1, *pixels.shape[pixels.ndim - n_spatial :])
                pixels = samples.convert(form.render(pixels), request.channels)
                pixels = turn(pixels, orientation)
                pixels = pixels if len(pixels) > 1 else pixels[0]
            spacing = _spacing(tif, page, n_spatial, orientation)
    return DecodedImage(pixels, n_spatial, spacing, form.full_range)


def _list_tags(file: BinaryIO) -> dict[int, set[int]]:
    """Return the codes of the tags of each page, by its place in the file.

    A list of pages that does not end, or that leads out of the file, is refused.
    """
    order = "<" if file.read(2) == b"II" else ">"

    def numbers(form: str) -> tuple[int, ...]:
        data = file.read(struct.calcsize(order + form))
        if len(data) < struct.calcsize(order + form):
            raise ValueError("its list of pages leads behind its end. The file is cut short")
        return struct.unpack(order + form, data)

    is_big = numbers("H")[0] == 43
    offset_form, count_form, entry_form = ("Q", "Q", "H18x") if is_big else ("I", "H", "H10x")
    file.seek(8 if is_big else 4)
    listed: dict[int, set[int]] = {}
    while offset := numbers(offset_form)[0]:
        if offset in listed:
            raise ValueError("its list of pages leads back to a page before. The file is damaged")
        file.seek(min(offset, 2**62))
        n_tags = numbers(count_form)[0]
        if n_tags > 4096:  # as many as tifffile accepts
            raise ValueError(f"a page must have at most 4096 tags; got {n_tags}")
        listed[offset] = set(numbers(entry_form * n_tags))
    if not listed:
        raise ValueError("the file must have a page; got none")
    return listed


def _check_tags(page: "TiffPage", listed: dict[int, set[int]]) -> None:
    """Refuse a page with a tag that decides about it and cannot be read, as it is left out."""
    lost = (listed.get(page.offset, set()) & _NEEDED) - {tag.code for tag in page.tags}
    if lost:
        raise ValueError(f"its tags {sorted(lost)} cannot be read. The file is damaged")


def _stack(tif: "TiffFile", request: ReadRequest, places: set[int]) -> Stack:
    """Find the one image of a file. Thumbnails and levels of a pyramid are no images."""
    first = tif.pages.first
    if not first.shape or 0 in first.shape:
        raise ValueError(f"its first page must have pixels; got shape {first.shape}")
    if tif.is_ome:
        _check_ome(tif.ome_metadata or "", os.path.basename(tif.filename), request)
    kinds = {kind for kind in _WITH_AXES if getattr(tif, f"is_{kind}")}
    if kinds:
        found = [
            series
            for series in tif.series
            if not (series.keyframe.is_reduced or series.keyframe.is_subifd)
        ]
        # A program that writes page after page by tifffile makes a series of each.
        are_pages = kinds == {"shaped"} and all(s.ndim == 2 for s in found)
        if len(found) == 1:
            return _stack_of_series(tif, found[0], kinds, places)
        if not are_pages:
            listed = ", ".join(f"{series.axes} {series.shape}" for series in found)
            raise ValueError(f"a TIFF must hold one image; got {len(found)}: {listed}. {REMEDY}")
    return _stack_of_pages(tif)


def _stack_of_pages(tif: "TiffFile") -> Stack:
    """Return the pages of a file that says nothing about its axes: the slices of a volume."""
    everything = [page.aspage() for page in tif.pages]
    pages = [page for page in everything if not page.is_reduced or len(everything) == 1]
    if not pages:
        raise ValueError(f"the file must have a page that is no thumbnail. {REMEDY}")
    forms = dict.fromkeys((page.shape, page.dtype, page.photometric) for page in pages)
    if len(forms) > 1:
        (shape, dtype, photometric), other, *_ = forms
        raise ValueError(
            f"the pages of a volume must have one shape; got {shape} and others: {other[0]}, "
            f"{other[1]}, {name_of(other[2], _PHOTOMETRIC)} beside {dtype}, "
            f"{name_of(photometric, _PHOTOMETRIC)}. {REMEDY}"
        )
    _check_alike(pages)
    if len(pages) == 1:
        return Stack(pages, pages[0].axes, pages[0].shape)
    return Stack(pages, f"I{pages[0].axes}", (len(pages), *pages[0].shape))


def _stack_of_series(
    tif: "TiffFile", series: "TiffPageSeries", kinds: set[str], places: set[int]
) -> Stack:
    """Return an image whose axes the metadata of the file name."""
    axes, shape, page = series.get_axes(False), series.get_shape(False), series.keyframe
    # Where tifffile cannot follow the metadata, it makes a series of the pages as they come.
    is_followed = series.kind in kinds and (series.kind == "ome" or not tif.is_ome)
    sizes = {axis: n for axis, n in zip(axes, shape, strict=True) if axis in "YX"}
    fits = sizes == {"Y": page.imagelength, "X": page.imagewidth}
    if series.transform is not None or not (is_followed and fits):
        raise ValueError(f"its metadata must fit its pages, as they stand in the file. {REMEDY}")
    is_plain = page.compression == page.predictor == page.fillorder == 1 and not page.is_tiled
    is_plain = is_plain and page.photometric not in _BY_PILLOW
    offset = series.dataoffset if is_plain and page.bitspersample in (8, 16, 32, 64) else None
    n_pages = len(places)
    if n_pages > 1:
        n_pages -= sum(part.aspage().is_reduced for part in tif.pages)
    if offset is not None:
        end = offset + math.prod(shape) * dtype_of(page).itemsize
        is_whole = math.prod(shape) == n_pages * page.size or n_pages == 1
        if not is_whole or any(offset <= place < end for place in places):
            raise ValueError(f"its metadata state shape {shape}; got {n_pages} pages. {REMEDY}")
        return Stack([page], axes, shape, offset)
    pages = [part.aspage() for part in series if part is not None]
    n_asked = math.prod(shape) // page.size
    if not len(pages) == len(series) == n_asked == n_pages or math.prod(shape) % page.size:
        raise ValueError(
            f"its metadata state {n_asked} pages; got {min(n_pages, len(pages))}. The file is "
            "damaged"
        )
    if any(part.hash != page.hash for part in pages):
        raise ValueError(f"its pages must have one form, as its metadata state it. {REMEDY}")
    _check_alike(pages)
    return Stack(pages, axes, shape)


def _check_alike(pages: "list[TiffPage]") -> None:
    """Refuse pages whose equal numbers have different meanings or places."""
    for name, values in {
        "orientation": {page.tags.valueof(274, 1) for page in pages},
        "order of samples": {page.axes for page in pages},
        "number of bits": {page.bitspersample for page in pages},
        "meaning of the samples": {tuple(page.extrasamples) for page in pages},
        "palette": {None if page.colormap is None else page.colormap.tobytes() for page in pages},
    }.items():
        if len(values) > 1:
            raise ValueError(f"the pages of a volume must have one {name}; got several. {REMEDY}")


def _check_ome(xml: str, name: str, request: ReadRequest) -> None:
    """Refuse an OME-TIFF whose pixels or metadata are in other files too, or absurd.

    Tifffile opens the files that the metadata name, and makes lists as long as they say.
    """
    if "<!" in xml.replace("<!--", "") or "ModuloAlong" in xml:
        raise ValueError(f"its OME metadata must not declare entities or more axes. {REMEDY}")
    own = re.search(r"<(?:\w+:)?OME\b[^>]*\bUUID=\"([^\"]*)\"", xml)
    ids = set(re.findall(r"<(?:\w+:)?UUID\b[^>]*>([^<]*)<", xml))
    names = set(re.findall(r"\bFileName=\"([^\"]*)\"", xml))
    is_own = (own is not None and ids <= {own[1]}) or names <= {name}
    if re.search(r"<(?:\w+:)?BinaryOnly\b", xml) or not is_own:
        raise ValueError(f"its OME metadata name other files, {sorted(names)}. {REMEDY}")
    for pixels in re.findall(r"<(?:\w+:)?Pixels\b[^>]*", xml):
        request.check_size([int(n) for n in re.findall(r"\bSize[XYZCT]=\"(\d+)\"", pixels)])
    places = r"\b(?:NumPlanes|PlaneCount|IFD|First[ZCT])=\"(\d+)\""
    if max((int(n) for n in re.findall(places, xml)), default=0) > request.max_pixels:
        raise ValueError("its OME metadata name more pages than max_pixels. The file is damaged")


def _form(page: "TiffPage") -> _Form:
    """Return the form of the pixels of a page, or refuse it by name."""
    photometric, compression = int(page.photometric), int(page.compression)
    described = (
        f"{name_of(photometric, _PHOTOMETRIC)}, {page.samplesperpixel} samples of "
        f"{page.bitspersample} bits, compression {name_of(compression, COMPRESSIONS)}"
    )
    if page.is_mask or photometric not in (*_GREY, _RGB, _PALETTE, *_BY_PILLOW):
        raise ValueError(f"a TIFF of this kind is not read: {described}. {REMEDY}")
    if compression not in (1, *DEFLATE, *LZMA, *PILLOW_BYTES, *PILLOW_PAGES):
        raise ValueError(
            f"a TIFF of this compression is not read: {described}. Pass reader=tifffile.imread, "
            "which needs the package imagecodecs"
        )
    if compression in PILLOW_PAGES or photometric in _BY_PILLOW:
        return _form_by_pillow(page, described)
    if photometric == _PALETTE:
        return _form_of_palette(page, described)
    return _form_of_numbers(page, described)


def _form_of_numbers(page: "TiffPage", described: str) -> _Form:
    """Return the form of a page of grey, RGB or channels, as the file holds them."""
    dtype, bits = dtype_of(page), page.bitspersample
    is_white_least = page.photometric == 0
    is_mixed = np.ndim(bits) > 0
    is_odd = is_mixed or (dtype.kind == "i" and bits < 8) or (dtype.kind == "f" and bits == 24)
    if dtype.kind not in "?buif" or is_odd:
        raise ValueError(f"a TIFF of such numbers is not read: {described}, {dtype}. {REMEDY}")
    if is_white_least and dtype.kind in "if":
        raise ValueError(
            f"a TIFF of signed or floating-point numbers must not be min-is-white; got {described}."
            f" {REMEDY}"
        )
    most = 2**bits - 1
    full = {"f": 1, "i": most // 2}.get(dtype.kind, max(most, 255))
    # Wider and signed numbers are measurements, of which none has the range of its dtype.
    full_range = (0.0, float(full)) if dtype.kind in "?bu" and bits <= 16 else None
    stored = np.dtype(np.uint8) if bits < 8 else dtype

    def render(pixels: np.ndarray) -> np.ndarray:
        if bits < 8:
            pixels = np.rint(pixels * (255 / most)).astype(np.uint8)
        return stored.type(full) - pixels if is_white_least else pixels

    return _Form(_samples(page, full), stored, full_range, render)


def _samples(page: "TiffPage", full: float) -> Samples:
    """Return the meaning of the channels of a page of grey or RGB."""
    n = int(page.samplesperpixel)
    n_colours = 3 if page.photometric == _RGB else 1
    if n < n_colours:
        raise ValueError(f"an RGB TIFF must have three samples for a pixel; got {n}")
    extra = tuple(page.extrasamples)
    # Without a word about it, the fourth channel of RGB is alpha, as pillow has it.
    kind = int(extra[0]) if extra else 2 if (n_colours, n) == (3, 4) else 0
    has_alpha = n > n_colours and kind in (1, 2, 999)  # Corel Draw writes 999
    if n > 1 and n_colours == 1 and not has_alpha:
        n_colours = 0  # channels of no known meaning
    return Samples(n_colours, n, has_alpha, has_alpha and kind == 1, full)


def _form_of_palette(page: "TiffPage", described: str) -> _Form:
    """Return the form of a page whose pixels are numbers of colours."""
    table = page.colormap
    if page.samplesperpixel != 1 or dtype_of(page).kind not in "?bu" or table is None:
        raise ValueError(f"a palette TIFF of this kind is not read: {described}. {REMEDY}")
    # Some programs write tables of eight bits. Libtiff tells them so.
    colours = (table if table.max() < 256 else table >> 8).astype(np.uint8)

    def render(pixels: np.ndarray) -> np.ndarray:
        if int(pixels.max()) >= colours.shape[1]:
            raise ValueError(
                f"its pixels must be numbers of the {colours.shape[1]} colours of its palette; got "
                f"{pixels.max()}"
            )
        return np.asarray(colours[:, pixels[0]])

    return _Form(Samples(3, 3), np.dtype(np.uint8), (0.0, 255.0), render)


def _form_by_pillow(page: "TiffPage", described: str) -> _Form:
    """Return the form of a page that pillow reads: colours and greys of eight bits."""
    n = {_RGB: 3, 5: 4, 6: 3, 8: 3}.get(int(page.photometric), 1)
    is_wide = page.bitspersample not in (1, 8) or page.sampleformat != 1
    if is_wide or page.samplesperpixel != n or page.photometric == _PALETTE:
        raise ValueError(
            f"a TIFF of this kind is read with {n} samples of 8 bits; got {described}. Pass "
            "reader=tifffile.imread, which needs the package imagecodecs"
        )
    samples = Samples(1, 1) if n == 1 else Samples(3, 3)
    return _Form(samples, np.dtype(np.uint8), (0.0, 255.0), lambda pixels: pixels, True)


def _order(stack: Stack, form: _Form) -> tuple[list[int], int]:
    """Return the axes in the order of channels, slices, rows and columns, and the spatial number.

    Axes of length 1 come first.
    """
    place = {axis: i for i, axis in enumerate(stack.axes) if stack.shape[i] > 1 or axis in "YX"}
    long = [i for i, axis in enumerate(stack.axes) if stack.shape[i] > 1 and axis not in "YX"]
    channels = [axis for axis in "CS" if axis in place]
    depth = [i for i in long if stack.axes[i] not in "CS"]
    is_volume = bool(depth)
    known = all(stack.axes[i] in "ZIQ" for i in depth)
    has_colours = stack.pages[0].photometric == _PALETTE or form.is_by_pillow
    is_clear = len(depth) <= 1 and len(channels) <= 1 and not (has_colours and "C" in channels)
    if not (known and is_clear):
        names = {"T": "time", "C": "channels", "S": "samples", "Z": "slices", "I": "images"}
        got = ", ".join(f"{stack.shape[i]} {names.get(stack.axes[i], stack.axes[i])}" for i in long)
        raise ValueError(
            f"a TIFF must have channels, and slices, on one axis each; got {got} (axes "
            f"{stack.axes}). Pass a reader= that chooses among them, or save the slices as axis Z"
        )
    order = [place[axis] for axis in channels] + depth + [place["Y"], place["X"]]
    ones = [i for i in range(len(stack.axes)) if i not in order]
    return ones + order, 3 if is_volume else 2


def _spacing(
    tif: "TiffFile", page: "TiffPage", n_spatial: int, orientation: int
) -> tuple[float, ...] | None:
    """Return the distances of pixels along the spatial axes, in mm, if the file states them."""
    found = _ome_spacing(tif.ome_metadata or "") if tif.is_ome else _tag_spacing(tif, page)
    size = turned_size((found[1], found[2]), orientation)
    distances = (found[0], *size)[-n_spatial:]
    if not all(math.isfinite(mm) and mm > 0 for mm in distances):
        return None
    return distances


def _ome_spacing(xml: str) -> tuple[float, float, float]:
    """Return the physical sizes along z, y and x, in mm, 0 where they are not stated."""
    parts = ElementTree.fromstring(xml).iter()
    pixels = next(part for part in parts if part.tag.endswith("Pixels"))

    def size(axis: str) -> float:
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        return float(pixels.get(f"PhysicalSize{axis}", 0)) * _MM.get(unit, 0.0)

    return size("Z"), size("Y"), size("X")


def _tag_spacing(tif: "TiffFile", page: "TiffPage") -> tuple[float, float, float]:
    """Return the distances of slices, rows and columns, in mm, 0 where they are not stated."""
    imagej = tif.imagej_metadata if tif.is_imagej else None
    mm = {2: 25.4, 3: 10.0}.get(int(page.tags.valueof(296, 2)), 0.0)
    between = 0.0
    if imagej:
        mm = _MM.get(
            str(imagej.get("unit", "")).lower(), 0.0 if mm == 0 or "unit" in imagej else mm
        )
        between = abs(float(imagej.get("spacing", 0.0))) * mm
    distances = []
    for code in (283, 282):
        resolution = page.tags.valueof(code)
        counted, length = resolution if isinstance(resolution, tuple) else (0, 1)
        distances.append(mm * length / counted if counted else 0.0)
    return between, distances[0], distances[1]
