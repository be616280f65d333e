"""Damage to the bytes of files: blind, and by someone who knows the format."""

import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random

import nibabel
import numpy as np

from tests.fuzzing.seeds import Unit

Mutation = Callable[[bytearray, Random], bytes | bytearray]

#: Numbers at which sizes, counts and offsets go wrong.
EXTREMES = [0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24]
EXTREMES += [2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -2]
TEXTS = [b"0", b"1", b"-1", b"2", b"3", b"7", b"65536", b"4294967296", b"9" * 19, b"9" * 400]
TEXTS += [b"nan", b"inf", b"1e400", b"1e-400", b"-0.0", b"", b"None", b"True", b"1.5", b"\xff"]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-300, 1e38, 1e300, float("nan"), float("inf")]


def cut(data: bytearray, random: Random) -> bytearray:
    return data[: random.randrange(len(data) + 1)]


def place(data: bytearray, random: Random) -> int:
    """Draw a place, which in half of the draws is among the first bytes or the last."""
    kind = random.random()
    if kind < 0.35:
        return random.randrange(min(len(data), 160))
    return (
        max(0, len(data) - 1 - random.randrange(200)) if kind < 0.5 else random.randrange(len(data))
    )


def flip(data: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 1, 2, 8))):
        data[place(data, random)] ^= 1 << random.randrange(8)
    return data


def put_bytes(data: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 2, 4))):
        data[place(data, random)] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
    return data


def put_number(data: bytearray, random: Random) -> bytearray:
    """Write an extreme number in 2, 4 or 8 bytes, in either byte order."""
    n = random.choice((2, 4, 8))
    at = place(data, random) & ~random.choice((0, 1, 3))
    number = random.choice(EXTREMES) % 256**n
    data[at : at + n] = number.to_bytes(n, random.choice(("little", "big")))
    return data


def put_text(data: bytearray, random: Random) -> bytearray:
    """Replace a number that is written as text, as in JSON, XML, numpy and DICOM."""
    found = list(re.finditer(rb"[-+.\d]+", data))
    if found:
        match = random.choice(found)
        data[match.start() : match.end()] = random.choice(TEXTS)
    return data


def insert(data: bytearray, random: Random) -> bytearray:
    at, n = place(data, random), random.choice((1, 2, 4, 16, 300))
    data[at:at] = (
        bytes(random.randrange(256) for _ in range(n)) if random.random() < 0.5 else bytes(n)
    )
    return data


def remove(data: bytearray, random: Random) -> bytearray:
    at = place(data, random)
    del data[at : at + random.choice((1, 2, 4, 16, 100))]
    return data


def repeat(data: bytearray, random: Random) -> bytearray:
    at, n, to = place(data, random), random.choice((1, 4, 12, 64, 300)), place(data, random)
    data[to:to] = data[at : at + n]
    return data


def swap(data: bytearray, random: Random) -> bytearray:
    n, at, to = random.choice((1, 2, 4, 12)), place(data, random), place(data, random)
    data[at : at + n], data[to : to + n] = data[to : to + n], data[at : at + n]
    return data


BLIND: tuple[Mutation, ...] = (
    *(cut, flip, flip, put_bytes, put_number, put_number, put_text, insert, remove, repeat, swap),
)


def blind(data: bytearray, random: Random) -> bytes | bytearray:
    return random.choice(BLIND)(data, random) if data else data


def png_chunk(data: bytearray, random: Random) -> bytes:
    """Damage a chunk, or the pixels within it, and mend its checksum."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        n = int.from_bytes(data[at : at + 4], "big")
        chunks.append((bytes(data[at + 4 : at + 8]), bytearray(data[at + 8 : at + 8 + n])))
        at += 12 + n
    if not chunks:
        return bytes(data)
    chosen = random.randrange(len(chunks))
    name, body = chunks[chosen]
    kind = random.randrange(6)
    if kind == 0:
        chunks.insert(random.randrange(len(chunks) + 1), chunks[chosen])
    elif kind == 1:
        del chunks[chosen]
    elif kind == 2:
        chunks.insert(random.randrange(len(chunks)), chunks.pop(chosen))
    elif kind == 3:  # all pixels anew
        packed = b"".join(body for name, body in chunks if name == b"IDAT")
        body = bytearray(blind(bytearray(inflated(packed)), random))
        chunks = [item for item in chunks if item[0] != b"IDAT"]
        chunks.insert(-1, (b"IDAT", bytearray(zlib.compress(body))))
    else:
        chunks[chosen] = (name, bytearray(blind(body, random)))
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return bytes(data[:8]) + b"".join(parts)


def inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, 2**20)
    except zlib.error:
        return packed


def jpeg_segment(data: bytearray, random: Random) -> bytes | bytearray:
    """Damage, repeat, move or drop a segment, with its length."""
    found, at = [], 2
    while at + 4 <= len(data) and data[at] == 255 and data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((at, end))
        at = end
    if not found:
        return data
    start, end = random.choice(found)
    segment, to = data[start:end], random.choice(found)[0]
    kind = random.randrange(4)
    if kind == 0:
        data[to:to] = segment
    elif kind == 1:
        del data[start:end]
    else:
        body = blind(segment[4:], random)
        data[start:end] = segment[:2] + struct.pack(">H", (len(body) + 2) % 65536) + body
    return data


def tiff_tag(data: bytearray, random: Random) -> bytes | bytearray:
    """Change an entry of a list of tags: its code, type, count or value, or the next list."""
    order: str = "<" if data[:2] == b"II" else ">"
    if len(data) < 16 or data[2:4] not in (b"*\0", b"\0*"):
        return blind(data, random)
    lists, at = [], struct.unpack_from(f"{order}I", data, 4)[0]
    while 0 < at < len(data) - 6 and at not in lists and len(lists) < 8:
        lists.append(at)
        n = struct.unpack_from(f"{order}H", data, at)[0]
        end = at + 2 + 12 * n
        at = struct.unpack_from(f"{order}I", data, end)[0] if end + 4 <= len(data) else 0
    if not lists:
        return data
    chosen = random.choice(lists)
    n = struct.unpack_from(f"{order}H", data, chosen)[0]
    entry = chosen + 2 + 12 * random.randrange(max(n, 1))
    if entry + 12 > len(data):
        return data
    kind = random.randrange(7)
    if kind == 0:
        codes = (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 322, 338)
        struct.pack_into(f"{order}H", data, entry, random.choice((*codes, 339, 320, 330, 530)))
    elif kind == 1:
        struct.pack_into(f"{order}H", data, entry + 2, random.choice((*range(14), 16, 17, 18)))
    elif kind == 2:
        struct.pack_into(f"{order}I", data, entry + 4, random.choice(EXTREMES) % 2**32)
    elif kind in (3, 4):
        form, most = random.choice((("H", 2**16), ("I", 2**32)))
        number = random.choice((*EXTREMES, 4, 5, 6, 34, 32773, 8, random.randrange(len(data))))
        struct.pack_into(order + form, data, entry + 8, number % most)
    elif kind == 5:
        struct.pack_into(f"{order}H", data, chosen, random.choice((n - 1, n + 1, 0)) % 2**16)
    else:
        end = min(chosen + 2 + 12 * n, len(data) - 4)
        struct.pack_into(f"{order}I", data, end, random.choice((*lists, 0, len(data) - 1)))
    return data


def nifti_field(data: bytearray, random: Random) -> bytes | bytearray:
    """Set a field of the header to an extreme, also within gzip."""
    if data[:2] == b"\x1f\x8b":
        try:
            whole = bytearray(gzip.decompress(data))
        except (OSError, EOFError, zlib.error):
            return blind(data, random)
        return gzip.compress(nifti_field(whole, random), mtime=0)
    kind = (
        nibabel.Nifti2Header if data[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c") else nibabel.Nifti1Header
    )
    layout = kind.template_dtype
    if len(data) < layout.itemsize or random.random() < 0.2:
        return blind(data, random)
    is_little = data[0] != 0
    field = random.choice(layout.names)
    inner, start = layout.fields[field][:2]
    base, shape = inner.subdtype or (inner, ())
    count = int(np.prod(shape)) if shape else 1
    at = start + base.itemsize * random.randrange(count)
    dtype = base.newbyteorder("<" if is_little else ">")
    if base.kind == "f":
        with np.errstate(over="ignore"):
            value = np.array(random.choice(FLOATS)).astype(dtype)
    elif base.kind in "iu":
        known = (2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2304)
        number = random.choice((*EXTREMES, *known)) % 256**base.itemsize
        value = np.frombuffer(number.to_bytes(base.itemsize, "little"), base.newbyteorder("<"))
        value = value.astype(dtype)
    else:
        return blind(data, random)
    data[at : at + base.itemsize] = value.tobytes()
    return data


def dicom_element(data: bytearray, random: Random) -> bytes | bytearray:
    """Change the value or the length of an element, or repeat or drop it."""
    found, at = [], 132
    while at + 8 <= len(data):
        is_long = bytes(data[at + 4 : at + 6]) in (b"OB", b"OW", b"OF", b"OD", b"SQ", b"UN", b"UT")
        head = 12 if is_long else 8
        n = int.from_bytes(data[at + 8 : at + 12] if is_long else data[at + 6 : at + 8], "little")
        if n > len(data) and n != 2**32 - 1:
            break
        n = min(n, 0 if n == 2**32 - 1 else n)
        found.append((at, head, n))
        at += head + n
    if not found:
        return blind(data, random)
    at, head, n = random.choice(found)
    vr = bytes(data[at + 4 : at + 6])
    kind = random.randrange(6)
    if kind == 0:
        del data[at : at + head + n]
        return data
    if kind == 1:
        data[at:at] = data[at : at + head + n]
        return data
    if kind == 2:
        vrs = (b"US", b"SS", b"DS", b"IS", b"OB", b"OW", b"SQ", b"UN", b"CS", b"FD", b"UI", b"??")
        data[at + 4 : at + 6] = random.choice(vrs)
        return data
    if vr in (b"DS", b"IS"):
        many = b"\\".join(random.choice(TEXTS) for _ in range(random.choice((1, 1, 2, 3, 6))))
        value = many + b" " * (len(many) % 2)
    elif vr == b"CS":
        value = random.choice(
            (b"MONOCHROME1 ", b"MONOCHROME2 ", b"RGB ", b"YBR_FULL", b"CT", b"MR")
        )
    elif vr in (b"US", b"SS"):
        value = struct.pack("<H", random.choice((*range(34), *EXTREMES)) % 2**16) * random.choice(
            (1, 1, 2)
        )
    else:
        value = bytes(blind(data[at + head : at + head + n], random))
    length = struct.pack("<I" if head == 12 else "<H", len(value) % 65536)
    data[at + head - len(length) : at + head + n] = length + value
    return data


def zip_entry(data: bytearray, random: Random) -> bytes | bytearray:
    """Damage the array within an archive and pack it anew, or the archive's lists."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (name,), method = archive.namelist(), archive.infolist()[0].compress_type
            inner = bytearray(archive.read(name))
    except Exception:  # of whatever kind: the archive was damaged before
        return blind(data, random)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", random.choice((method, zipfile.ZIP_DEFLATED))) as archive:
        archive.writestr(
            random.choice((name, name, "a/../b.npy", "/b.npy")), npy_header(inner, random)
        )
        if random.random() < 0.1:
            archive.writestr("b.npy", bytes(inner))
    return stream.getvalue()


def npy_header(data: bytearray, random: Random) -> bytes:
    """Change a word of the header of an array of numpy."""
    kinds = (
        b"|u1",
        b"<u2",
        b">f4",
        b"<f8",
        b"|O",
        b"<U5",
        b"|V3",
        b"<c8",
        b"<M8[s]",
        b"|b1",
        b"<f16",
    )
    found = list(re.finditer(rb"'[|<>][^']*'", data[:400]))
    if found and random.random() < 0.4:
        (match, *_), text = found, random.choice(kinds)
        data[match.start() + 1 : match.end() - 1] = text
        return bytes(data)
    return bytes(blind(data, random))


def riff_chunk(data: bytearray, random: Random) -> bytes | bytearray:
    """Damage a chunk of a WebP, and mend the lengths."""
    chunks, at = [], 12
    while at + 8 <= len(data):
        n = int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.append((bytes(data[at : at + 4]), bytearray(data[at + 8 : at + 8 + n])))
        at += 8 + n + n % 2
    if not chunks:
        return blind(data, random)
    chosen, kind = random.randrange(len(chunks)), random.randrange(4)
    if kind == 0:
        chunks.insert(random.randrange(len(chunks) + 1), chunks[chosen])
    elif kind == 1:
        del chunks[chosen]
    else:
        chunks[chosen] = chunks[chosen][0], bytearray(blind(chunks[chosen][1], random))
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
        for name, part in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


#: The mutation that knows a format. Formats whose headers are text or plain numbers need none.
KNOWING: dict[str, Mutation] = {
    "PNG": png_chunk,
    "JPEG": jpeg_segment,
    "TIFF": tiff_tag,
    "WebP": riff_chunk,
    "NIfTI": nifti_field,
    "DICOM": dicom_element,
    "npy": npy_header,
    "npz": zip_entry,
}


def damage(unit: Unit, name: str, random: Random) -> Unit:
    """Return an image with one to three changes."""
    unit = dict(unit)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        file = random.choice(sorted(unit))
        change = KNOWING.get(name, blind) if random.random() < 0.6 else blind
        if unit[file]:
            unit[file] = bytes(change(bytearray(unit[file]), random))
        if len(unit) > 1 and random.random() < 0.1:
            unit.pop(file)
        elif (len(unit) > 1 or name == "zarr") and random.random() < 0.1:
            unit[f"{file}0"] = unit[file]
    return unit
