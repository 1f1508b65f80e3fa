"""TIFFs of the kinds that Pillow refuses or reads wrongly: other depths, sample formats and layouts, read by tifffile.

Pillow decides by a table of known kinds. What is not in it raises, or is read as something else: 16 bits in planes as
noise, 32 bits without a sign as if they had one. `is_ordinary` says which kinds Pillow reads right.
"""

import io
import itertools
import logging
import struct

import numpy as np
from PIL import Image

from lib.data.damage import ImageError, cut_short, jpeg_segments
from lib.system.parallel import imported

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 277, 278, 279
_PLANAR, _COLOUR_MAP, _INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 284, 320, 332, 338, 339
_ORIENTATION, _ICC_PROFILE = 274, 34675

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR, _LAB, _ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
_MODES = {_WHITE_IS_ZERO: "L", _BLACK_IS_ZERO: "L", _RGB: "RGB", _PALETTE: "P", _SEPARATED: "CMYK", _YCBCR: "YCbCr"}
_MODES.update({_LAB: "LAB", _ICC_LAB: "LAB"})
_BANDS = {"L": 1, "P": 1, "RGB": 3, "YCbCr": 3, "LAB": 3, "CMYK": 4}
_PREMULTIPLIED, _ALPHA = 1, 2  # kinds of extra samples

# None, LZW, Deflate (twice), PackBits, LZMA and Zstandard give bytes: as many as are asked for. All but the last are
# left to libtiff: on damaged files, the imagecodecs of Python 3.8 can crash.
_ZSTANDARD = 50000  # which not every Pillow has
_BYTE_CODECS = (1, 5, 8, 32946, 32773, 34925, _ZSTANDARD)
# JPEG, JPEG 2000 (three times) and WebP give pictures, as large as these say.
_JPEG = 7
_PICTURE_CODECS = {_JPEG: "JPEG", 33003: "JPEG2000", 33005: "JPEG2000", 34712: "JPEG2000", 50001: "WEBP"}

_BYTES_PER_PIXEL = 8  # of 16-bit RGBA; a picture of more takes no more than one of these with the pixels allowed

_NO_FRAMES = (0xC4, 0xC8, 0xCC)  # of a JPEG's markers among those of frames

_MOST_TAGS = 4096  # tifffile takes no more
_VALUE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # by type; others have 1
_NEEDED = {*range(254, 267), *range(273, 285), 292, 317, 320, *range(322, 326), 332, 338, 339, 347, 529, 530, 531, 532}


def is_tiff(start):
    """Whether a file that starts with these bytes is a TIFF or BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_directory(file):
    """Raise ImageError if what a TIFF says about its first picture is not all in the file."""
    file.seek(0)
    start = file.read(16)
    order, big = "<" if start[:1] == b"I" else ">", 43 in start[2:4]
    (position,) = struct.unpack(order + ("Q" if big else "I"), start[8:16] if big else start[4:8])
    size = file.seek(0, 2)
    file.seek(min(position, size))
    count = file.read(8 if big else 2)
    entry = 20 if big else 12
    number = int.from_bytes(count, "little" if order == "<" else "big")
    entries = file.read(entry * min(number, _MOST_TAGS))
    if not count or len(entries) < entry * number:
        raise ImageError(cut_short(1 - size / (position + 1) if position >= size else None))
    for place in range(0, len(entries), entry):
        tag, kind, values, offset = struct.unpack(order + ("HHQQ" if big else "HHII"), entries[place : place + entry])
        length = values * _VALUE_BYTES.get(kind, 1)
        if tag in _NEEDED and length > (8 if big else 4) and offset + length > size:
            raise ImageError(cut_short())


def first_tags(file):
    """What a TIFF says about its first picture: tag -> value."""
    return {tag.code: tag.value for tag in _first_page(file).tags}


def is_ordinary(tags):
    """Whether Pillow reads a TIFF right.

    Args:
        tags: the `tag_v2` of its Pillow image.
    """
    bits = set(tags.get(_BITS, (1,)))
    photometric, samples, extra = tags.get(_PHOTOMETRIC, 0), tags.get(_SAMPLES, 1), tags.get(_EXTRA_SAMPLES, ())
    if not set(tags.get(_SAMPLE_FORMAT, (1,))) <= {1, 4} or len(bits) != 1:
        return False
    if photometric == _YCBCR:
        return bits == {8} and tags.get(_COMPRESSION, 1) != 1
    contiguous = samples == 1 or tags.get(_PLANAR, 1) == 1
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        return samples == 1 and not extra and bits in ({1}, {2}, {4}, {8}, {16})
    if photometric == _PALETTE and samples == 1 and bits in ({1}, {2}, {4}, {8}):
        return max(tags.get(_COLOUR_MAP, (0,))) > 255
    if bits != {8} or not contiguous:
        return False
    if photometric == _RGB:
        return (samples, extra) in ((3, ()), (4, ()), (4, (0,)), (4, (_PREMULTIPLIED,)), (4, (_ALPHA,)))
    return photometric == _SEPARATED and samples == 4 and not extra and tags.get(_INK_SET, 1) == 1


class Tiff:
    """The first picture of a TIFF.

    Attributes:
        width, height: in pixels.
        format, mode, info: as of a Pillow image.
        decoding_bytes: about how much memory `load` takes.
        orientation: as in EXIF, 1-8.

    Raises:
        ImageError: it is cut short, or of a kind that can't be read.
        Exception: whatever tifffile raises for a damaged file.
    """

    def __init__(self, file, max_pixels):
        self._page = page = _first_page(file)
        self.width, self.height = page.imagewidth, page.imagelength
        self.orientation, self.format = page.tags.valueof(_ORIENTATION, 1), "TIFF"
        profile = page.tags.valueof(_ICC_PROFILE)
        self.info = {"icc_profile": profile if isinstance(profile, bytes) else None}
        mode = "RGB" if (page.photometric, page.compression) == (_YCBCR, _JPEG) else _MODES.get(page.photometric)
        bands = page.samplesperpixel
        if not _is_known(page) or mode is None or bands < _BANDS[mode]:
            raise ImageError(f"a TIFF of a kind that can't be read ({_kind(page)})")
        size = max(self.width * self.height, page.tilewidth * page.tilelength) * page.imagedepth * bands
        self.decoding_bytes = 2 * size * page.dtype.itemsize
        if self.decoding_bytes > 2 * _BYTES_PER_PIXEL * max_pixels:
            what = f"{self.width} x {self.height} pixels of {bands * page.dtype.itemsize} bytes"
            raise ImageError(f"{what} are more than the {max_pixels} allowed")
        self.mode, self._samples = mode, None

    def load(self):
        """Decode the picture, whose memory the object keeps."""
        missing = _missing(self._page)
        if missing > 0:
            raise ImageError(cut_short(missing))
        samples = _subsampled(self._page) if _is_subsampled(self._page) else _decoded(self._page)
        self._samples = samples.view("uint8") if samples.dtype == bool else samples

    def pick(self, rows, columns):
        """The pixels where rows and columns cross, of a loaded picture.

        Returns:
            The name that Pillow has for their mode: L, RGB, CMYK or LAB; float32 `(rows, columns, bands)`, 0-255; and
            their opacity, float32 `(rows, columns, 1)`, 0-1, which colours are not multiplied by, or None.
        """
        page, bands = self._page, _BANDS[self.mode]
        picked = self._samples.take(rows, axis=0).take(columns, axis=1)
        if self.mode == "P":
            return "RGB", self._coloured(picked[..., 0]), None
        if self.mode == "LAB":
            return "LAB", self._lab(picked), None
        colours = self._scaled(picked[..., :bands])
        if self.mode == "YCbCr":
            return "RGB", _rgb(colours), None
        if page.photometric == _WHITE_IS_ZERO:
            colours = 255 - colours
        extra = tuple(page.extrasamples) or ((_ALPHA,) if (self.mode, picked.shape[2]) == ("RGB", 4) else ())
        place = next((i for i, kind in enumerate(extra) if kind in (_PREMULTIPLIED, _ALPHA)), None)
        if place is None or bands + place >= picked.shape[2]:
            return self.mode, colours, None
        alpha = np.clip(picked[..., bands + place :][..., :1] / np.float32(self._white()), 0, 1).astype("float32")
        if extra[place] == _PREMULTIPLIED:
            colours = np.clip(colours / np.where(alpha > 0, alpha, 1), 0, 255)
        return self.mode, colours, alpha

    def _white(self):
        """The greatest value of a sample that is no colour."""
        kind = self._samples.dtype.kind
        return 1 if kind == "f" else 2 ** (self._page.bitspersample - (kind == "i")) - 1

    def _scaled(self, picked):
        """Samples of colours -> float32, 0-255."""
        bits, kind = self._page.bitspersample, self._samples.dtype.kind
        if kind == "u" and bits <= 16:
            return picked.astype("float32") * np.float32(255 / (2**bits - 1))
        # 32 bits, numbers with a sign and floats have no agreed range, but that of floats in colour, which is 0 to 1:
        # the darkest and brightest sample of the picture become 0 and 255. NaN and infinity, as where nothing was
        # measured, are dark.
        whole = self._samples[..., : picked.shape[2]]
        finite = whole[np.isfinite(whole)] if kind == "f" else whole
        if not finite.size:
            raise ImageError("no pixel is a number")
        darkest, brightest = float(finite.min()), float(finite.max())
        if kind == "f" and picked.shape[2] > 1 and darkest >= 0 and brightest <= 1:
            darkest, brightest = 0.0, 1.0
        values = np.where(np.isfinite(picked), picked, darkest).astype("float64")
        return ((values - darkest) * (255 / ((brightest - darkest) or 1))).astype("float32")

    def _coloured(self, places):
        """Places in the colour map -> float32 `(…, 3)`, 0-255."""
        colours = np.asarray(self._page.tags.valueof(_COLOUR_MAP), dtype="float32").reshape(3, -1).T
        colours = colours * np.float32(255 / 65535) if colours.max() > 255 else colours  # old ones have 8 bits
        return colours[np.minimum(places, len(colours) - 1)]

    def _lab(self, picked):
        """Samples of CIE L*a*b* -> float32, 0-255, as Pillow's LAB: negative a* and b* are 256 greater."""
        if self._page.dtype.kind != "u" or self._page.bitspersample not in (8, 16):
            raise ImageError(f"a TIFF of a kind that can't be read ({_kind(self._page)})")
        colours = self._scaled(picked[..., :3])
        if self._page.photometric == _ICC_LAB:  # in which they are 128 greater
            colours[..., 1:] = (colours[..., 1:] + 128) % 256
        return colours


def missing_part_of_tiff(file):
    """The share of a TIFF's pixels that lie behind the end of its file, 0-1; None if that is unknown."""
    try:
        check_directory(file)
        return _missing(_first_page(file))
    except Exception:  # as in `Tiff`
        return None


def _missing(page):
    """The share of the picture's bytes that are not in the file, 0-1."""
    size, number = page.parent.filehandle.size, max(1, int(np.prod(page.chunked)))
    offsets, counts = page.dataoffsets[:number], page.databytecounts[:number]
    if page.compression == 1:  # some writers count too many bytes
        width, height = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
        bands = 1 if page.planarconfig == 2 else page.samplesperpixel
        most = -(-width * bands * page.bitspersample // 8) * height * max(1, page.tiledepth)
        counts = [min(count, most) for count in counts]
    inside = sum(count > 0 and max(0, min(1, (size - offset) / count)) for offset, count in zip(offsets, counts))
    return 1 - inside / number


def _decoded(page):
    """The samples of a page's strips or tiles: `(height, width, samples)`."""
    whole, known = np.empty(page.shaped, page.dtype), {}
    most = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    compression, fill_order = page.compression, page.fillorder
    if compression == _JPEG:
        known = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    elif compression != _ZSTANDARD and compression in _BYTE_CODECS:  # the rest, such as predictors, is tifffile's
        page.compression, page.fillorder = 1, 1
    places = page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts, flat=True)
    for data, index in itertools.islice(places, int(np.prod(page.chunked))):
        if compression in _PICTURE_CODECS:
            width, height = _size(data, _PICTURE_CODECS[compression])
            if width > most[0] or height > most[1]:
                raise ImageError("damaged: a part of the picture is larger than the whole")
        elif compression != _ZSTANDARD and (compression, fill_order) != (1, 1):
            bands = 1 if page.planarconfig == 2 else page.samplesperpixel
            rows = most[1] if page.is_tiled else min(most[1], page.imagelength - index * most[1] % _rows_of_plane(page))
            data = _unpacked(data, -(-most[0] * bands * page.bitspersample // 8), rows, compression, fill_order)
        part, (plane, layer, top, left, _), _ = page.decode(data, index, **known)
        part = part[:1, : page.imagelength - top, : page.imagewidth - left]
        whole[plane, layer, top : top + part.shape[1], left : left + part.shape[2]] = part[0]
    whole = whole[:, 0]
    return whole[0] if len(whole) == 1 else np.moveaxis(whole[..., 0], 0, 2)


def _rows_of_plane(page):
    """The rows of the strips of one plane, the last of which may be shorter than its place."""
    return -(-page.imagelength // page.rowsperstrip) * page.rowsperstrip


def _unpacked(data, width, height, compression, fill_order):
    """Decompress the bytes of a strip or tile by Pillow's libtiff, for which they are a grey picture."""
    tags = {_WIDTH: width, _HEIGHT: height, _BITS: 8, _COMPRESSION: compression, _PHOTOMETRIC: _BLACK_IS_ZERO}
    tags.update({_FILL_ORDER: fill_order, _STRIP: 8, _SAMPLES: 1, _ROWS_PER_STRIP: height, _STRIP_BYTES: len(data)})
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data) + len(data) % 2)
    content = head + data + bytes(len(data) % 2) + struct.pack("<H", len(tags)) + entries + bytes(4)
    with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
        return image.tobytes()


def _size(data, kind):
    """The width and height of an encoded strip or tile."""
    if kind == "JPEG":
        frames = (part for marker, part in jpeg_segments(data) if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES)
        return struct.unpack(">HH", next(frames)[5:9])[::-1]
    if kind == "JPEG2000":
        right, bottom, left, top = struct.unpack(">4I", data[data.index(b"\xff\x4f\xff\x51") + 8 :][:16])
        return right - left, bottom - top
    with Image.open(io.BytesIO(data), formats=(kind,)) as part:
        return part.size


def _is_known(page):
    """Whether a page's samples can be decoded."""
    if page.dtype is None or page.dtype.kind not in "buif" or type(page.bitspersample) is not int:
        return False
    if page.bitspersample > 16 and page.bitspersample not in (32, 64):
        return False
    if page.compression in _PICTURE_CODECS:
        return page.bitspersample <= 16 and page.tags.valueof(_INK_SET, 1) == 1
    if _is_subsampled(page) and (page.compression != 1 or page.bitspersample != 8 or page.is_tiled):
        return False
    return page.compression in _BYTE_CODECS and page.tags.valueof(_INK_SET, 1) == 1


def _is_subsampled(page):
    return page.photometric == _YCBCR and page.compression not in _PICTURE_CODECS and page.is_subsampled


def _subsampled(page):
    """The samples of uncompressed strips whose pixels share colours: uint8 `(height, width, 3)`."""
    across, down = page.subsampling
    columns, strips = -(-page.imagewidth // across), []
    for data, _ in page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts, flat=True):
        rows = min(page.rowsperstrip, page.imagelength - sum(map(len, strips)))
        units = np.frombuffer(data, "uint8")[: -(-rows // down) * columns * (across * down + 2)]
        units = units.reshape(-1, columns, across * down + 2)
        light = units[..., :-2].reshape(-1, columns, down, across).transpose(0, 2, 1, 3).reshape(-1, columns * across)
        colours = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
        strips.append(np.dstack([light, colours])[:rows, : page.imagewidth])
    return np.concatenate(strips)


def _rgb(colours):
    """YCbCr of BT.601, which TIFF shares with JPEG -> RGB, float32 `(rows, columns, 3)`, 0-255."""
    light, blue, red = np.moveaxis(colours - np.float32([0, 128, 128]), 2, 0)
    bands = light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue
    return np.clip(np.stack(bands, axis=2), 0, 255)


def _kind(page):
    """A page's kind in a few words, such as "12 bits, YCBCR, CCITT_T4"."""
    names = {"f": "floats", "c": "complex numbers"}
    parts = [f"{page.bitspersample} bits", names.get(page.dtype and page.dtype.kind)]
    parts.append(page.dtype is None and f"sample format {page.sampleformat}")
    parts += [getattr(value, "name", f"{title} {value}") for title, value in _named(page)]
    return ", ".join(part for part in parts if part)


def _named(page):
    return ("photometric", page.photometric), ("compression", page.compression)


def _first_page(file):
    file.seek(0)
    tifffile = imported("tifffile")  # takes a tenth of a second
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # its messages lack the file's name
    return tifffile.TiffFile(file).pages[0]
