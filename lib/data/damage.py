"""Files that decoders refuse: mended if only their metadata are broken, else described in a user's words."""

import itertools
import re
import struct
import zlib

import numpy as np
import simplejpeg

from lib.data.colours import MOST_BYTES

_START_OF_SCAN = 0xDA  # of a JPEG

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # x, y, steps

_SHARES = ((0.0, "a little"), (0.1, "about a tenth"), (0.25, "about a quarter"), (0.33, "about a third"))
_SHARES += ((0.5, "about half"), (0.67, "about two thirds"), (0.75, "about three quarters"), (1.0, "nearly all"))

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (_PNG, "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"BM", "BMP"),
)
_OTHERS = (
    (b"%PDF", "a PDF"),
    (b"%!", "PostScript"),
    (b"8BPS", "a Photoshop file"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"PK\3\4", "a zip archive or an office document"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xd0\xcf\x11\xe0", "an office document"),
    (b"SQLite format 3\0", "a database"),
    (b"\0\5\x16\7", "a Mac's notes on a file"),
    (b"SIMPLE  =", "FITS"),
    (b"version https://git-lfs", "a pointer to a file in Git LFS"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "a camera's raw file"}
_BRANDS.update(dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"))


class ImageError(Exception):
    """A file can't be read as a whole picture; the message is the reason, without the file's name."""


def cut_short(missing=None):
    """The reason that a file ends too early.

    Args:
        missing: the share of it that is missing, 0-1; None if that isn't known.
    """
    if missing is None:
        return "cut short: its end is missing"
    return f"cut short: {min(_SHARES, key=lambda share: abs(share[0] - missing))[1]} is missing"


def what_it_is(file):
    """What a file is by its first bytes.

    Returns:
        The name of a format that is read, or None; and what else it is, such as "a web page", or None.
    """
    file.seek(0)
    start = file.read(512)
    for table, known in ((_STARTS, True), (_OTHERS, False)):
        for mark, name in table:
            if start.startswith(mark):
                return (name, None) if known else (None, name)
    if start[:4] == b"RIFF":
        return ("WebP", None) if start[8:12] == b"WEBP" else (None, "a film or a sound")
    if start[4:8] == b"ftyp":
        name = _BRANDS.get(start[8:12], "a film")
        return (name, None) if name in ("HEIC", "AVIF") else (None, name)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--")):
        return None, "a web page"
    if text.startswith((b"<?xml", b"<svg")):
        return None, "an SVG drawing" if b"<svg" in text else "a web page" if b"<html" in text else "an XML text"
    if not start.strip(b"\0"):
        return None, "nothing but zeros"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in start):
        return None, "a text"
    return None, None


def missing_part(file):
    """The share of a damaged picture that is missing behind the end of its file.

    Returns:
        0-1, or None if it ends too early, but that share isn't known; 0 if nothing seems to be missing.
    """
    file.seek(0)
    content = file.read()
    name = what_it_is(file)[0]
    try:
        if name == "JPEG":
            return _missing_of_jpeg(content)
        if name == "PNG":
            return 0 if _chunks(content)[-1][0] == b"IEND" else _missing_of_png(content)
        if name == "GIF":
            return 0 if content.rstrip(b"\0").endswith(b";") else None
        length = len(content)
        if name == "WebP":
            length = 8 + int.from_bytes(content[4:8], "little")
        elif name == "BMP":
            length = _length_of_bmp(content)
        elif name in ("HEIC", "AVIF", "JPEG 2000"):
            length = _length_of_boxes(content)
        return None if length is None else max(0, 1 - len(content) / length)
    except (LookupError, struct.error, zlib.error, ValueError, ZeroDivisionError):
        return None


def mended(file):
    """A JPEG or PNG whose picture is whole, with nothing else in it but what says how to show it.

    Returns:
        Its bytes; None for other files.
    """
    file.seek(0)
    content = file.read()
    try:
        if content.startswith(b"\xff\xd8"):
            return _mended_jpeg(content)
        if content.startswith(_PNG):
            return _mended_png(content)
    except (IndexError, struct.error):
        pass
    return None


def check_boxes(file):
    """Raise ImageError if a HEIC or AVIF has a name in it that is no text, by which libheif's binding would crash."""
    file.seek(0)
    content = file.read()
    for place in re.finditer(b"infe[\2\3]", content[: content.find(b"mdat")]):
        (length,) = struct.unpack(">I", content[place.start() - 4 : place.start()])
        names = content[place.end() + (7 if place[0].endswith(b"\2") else 9) : place.start() - 4 + length]
        try:
            names.decode()
        except UnicodeDecodeError:
            raise ImageError("damaged: a name in it is no text") from None


def _mended_jpeg(content):
    parts, scans = [b"\xff\xd8"], None
    for marker, segment in jpeg_segments(content):
        if marker == _START_OF_SCAN:
            scans = segment
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _shows_how(marker, segment[4:]):
            parts.append(segment)
    whole = b"".join([*parts, scans])
    if b"\xff\xd9" not in scans:
        whole += b"\xff\xd9"
        if not _has_all_blocks(whole):
            return None
    return whole


def jpeg_segments(content):
    """The segments of a JPEG.

    Yields:
        Their markers, and their bytes with the marker; of the first scan also all that follows. IndexError if there is
        none.
    """
    position = 2
    while True:
        while content[position] != 0xFF or content[position + 1] == 0xFF:
            position += 1
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == _START_OF_SCAN:
            yield marker, content[position:]
            return
        yield marker, content[position : position + 2 + length]
        position += 2 + length


def _shows_how(marker, data):
    """Whether a segment says how a picture is shown: its orientation, profile or colours."""
    if marker == 0xEE:
        return data.startswith(b"Adobe") and len(data) >= 12
    return (marker == 0xE1 and data.startswith(b"Exif\0\0")) or (
        marker == 0xE2 and data.startswith(b"ICC_PROFILE\0") and len(data) > 14
    )


def _has_all_blocks(jpeg):
    """Whether a JPEG has every block of its picture, and every bit of each."""
    try:
        simplejpeg.decode_jpeg(jpeg, _bands(jpeg), min_height=1, min_width=1, strict=True)
    except (ValueError, KeyError):
        return False
    return _has_all_scans(jpeg)


def _has_all_scans(jpeg):
    """Whether the scans of a progressive JPEG give all bits of all coefficients; True for others."""
    if not any(mark in jpeg[: jpeg.index(b"\xff\xda")] for mark in (b"\xff\xc2", b"\xff\xca")):
        return True
    frame = min(place for place in (jpeg.find(b"\xff\xc2"), jpeg.find(b"\xff\xca")) if place >= 0)
    components = [jpeg[frame + 10 + 3 * number] for number in range(jpeg[frame + 9])]
    lacking = set(itertools.product(components, range(64)))
    place = jpeg.find(b"\xff\xda")
    while place >= 0:
        count = jpeg[place + 4]
        first, last, bits = jpeg[place + 5 + 2 * count : place + 8 + 2 * count]
        if bits & 15 == 0:
            named = [jpeg[place + 5 + 2 * number] for number in range(count)]
            lacking -= set(itertools.product(named, range(first, last + 1)))
        place = jpeg.find(b"\xff\xda", place + 2)
    return not lacking


def _missing_of_jpeg(content):
    """The share of a JPEG's rows that are missing behind its end, 0-1; None if that isn't known."""
    try:
        *_, (_, scans) = jpeg_segments(content)  # and not the scan of a thumbnail in its metadata
    except IndexError:
        return 1
    if b"\xff\xd9" in scans[scans.rindex(b"\xff\xda") :]:
        return 0
    pixels = simplejpeg.decode_jpeg(content + b"\xff\xd9", _bands(content), min_height=1, min_width=1, strict=False)
    present = np.flatnonzero((np.abs(pixels - 127.5) > 1).any(axis=(1, 2)))  # rows that are missing become middle grey
    missing = 1 - (present[-1] + 1) / len(pixels) if present.size else 1
    return missing or None


def _bands(jpeg):
    """What simplejpeg can decode a JPEG to."""
    return "CMYK" if simplejpeg.decode_jpeg_header(jpeg, strict=False)[2] in ("CMYK", "YCCK") else "RGB"


def _chunks(content):
    """The chunks of a PNG that begin before its end: type, data and whether they are whole with the right checksum."""
    found, position = [], len(_PNG)
    while position + 8 <= len(content) and (not found or found[-1][0] != b"IEND"):
        (length,), kind = struct.unpack(">I", content[position : position + 4]), content[position + 4 : position + 8]
        data, checksum = content[position + 8 :][:length], content[position + 8 + length :][:4]
        right = len(data) == length and checksum == struct.pack(">I", zlib.crc32(kind + data))
        found.append((kind, data, right))
        position += 12 + length
    return found


def _mended_png(content):
    chunks = _chunks(content)
    parts, ends = [_PNG], chunks[-1][0] == b"IEND"
    if not ends and _missing_of_png(content):
        return None
    for number, (kind, data, right) in enumerate(chunks):
        if kind not in (b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"eXIf", b"iCCP"):
            continue
        if kind[:1].islower() and not (right and (kind != b"iCCP" or _is_short(data))):
            continue
        # A chunk that the file's end cuts off holds the last pixels, of which none is missing.
        wrong = 0 if right or (not ends and number == len(chunks) - 1) else 1
        checksum = zlib.crc32(kind + data) ^ wrong
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))
    return b"".join([*parts, struct.pack(">I", 0), b"IEND", struct.pack(">I", zlib.crc32(b"IEND"))])


def _is_short(data):
    """Whether a compressed profile, behind its name, is one and not too long."""
    try:
        packed = zlib.decompressobj()
        packed.decompress(data.split(b"\0", 1)[1][1:], MOST_BYTES)
        return packed.eof
    except (IndexError, zlib.error):
        return False


def _missing_of_png(content):
    """The share of a PNG's pixels that its chunks lack, 0-1."""
    chunks = _chunks(content)
    width, height, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    bits *= _PNG_BANDS[colours]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    shapes = [(-(-(width - x) // right), -(-(height - y) // down)) for x, y, right, down in passes]
    total = sum((1 + -(-columns * bits // 8)) * rows for columns, rows in shapes if columns > 0 and rows > 0)
    packed, size = zlib.decompressobj(), 0
    for kind, data, _ in chunks:
        while kind == b"IDAT" and data and size < total:
            size += len(packed.decompress(data, 1 << 20))
            data = packed.unconsumed_tail
    return max(0, 1 - size / total)


def _length_of_bmp(content):
    """The bytes that a BMP should have; None if it is compressed."""
    pixels, header = struct.unpack("<II", content[10:18])
    if header < 40:
        width, height, _, bits = struct.unpack("<HHHH", content[18:26])
        return pixels + (width * bits + 31) // 32 * 4 * height
    width, height, _, bits, compression = struct.unpack("<iiHHI", content[18:34])
    return pixels + (width * bits + 31) // 32 * 4 * abs(height) if compression in (0, 3) else None


def _length_of_boxes(content):
    """The bytes that a file of boxes (HEIC, AVIF, JP2) should have; None if it ends before that of the pixels."""
    position, kind = 0, b""
    while position < len(content):
        length, kind = struct.unpack(">I4s", content[position : position + 8])
        if length == 1:
            (length,) = struct.unpack(">Q", content[position + 8 : position + 16])
        if length < 8:
            return None
        position += length
    return position if kind in (b"mdat", b"jp2c") else None
