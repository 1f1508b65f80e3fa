"""How a picture becomes pixels. Every stage that reads an image file reads it here.

A file's content decides what it is, never its name. See `read_image` for what happens to the pixels.
"""

import contextlib
import ctypes
import functools
import io
import logging
import os
import stat
import threading
import warnings

import numpy as np
import simplejpeg
from PIL import Image, PngImagePlugin

from lib.data.colours import MOST_BYTES, to_rgb
from lib.data.damage import ImageError, check_boxes, cut_short, mended, missing_part, what_it_is
from lib.data.raw_files import is_raw, read_preview
from lib.data.tiffs import Tiff, check_directory, first_tags, is_ordinary, is_tiff, missing_part_of_tiff
from lib.system.memory import MAX_PIXELS
from lib.system.parallel import cores, imported

# Pillow's names of the formats that are read. An MPO is opened as the JPEG that it begins with. Pillow's other formats
# are left out: no scans have them, and some of them run other programs.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "JPEG2000", "HEIF", "AVIF")

# A JPEG is shrunk in its decoder as long as its shorter side has at least this many pixels: on labelled scans the
# shrunken picture is categorised as well as the whole one, and a scan of 24 megapixels takes a third less time.
SHORTER_SIDE = 512

# From this many pixels on, rows are fetched one by one rather than copying the whole picture out of the decoder.
ROWWISE_PIXELS = 3_000_000

# Bytes that decoding may take at once for each core; a picture that would exceed them waits for others.
_DECODING_BYTES = 200_000_000

_own = threading.local()  # what a thread has for itself
_REUSED_BYTES = 32 << 20  # of a decoded picture, the most that a thread uses again

# Pillow's own guard refuses from 179 million pixels on; `max_pixels` is the guard here, and it can be set.
Image.MAX_IMAGE_PIXELS = None

# Pillow refuses a PNG with a longer text; a profile counts as one.
PngImagePlugin.MAX_TEXT_CHUNK = MOST_BYTES

# Warnings and errors that Pillow and libtiff write to the terminal are about files, but without their names.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
with contextlib.suppress(AttributeError, OSError):  # a Pillow without libtiff, or that holds its own
    _libraries = ctypes.CDLL(Image.core.__file__)
    for _set_handler in (_libraries.TIFFSetErrorHandler, _libraries.TIFFSetWarningHandler):
        _set_handler.argtypes, _set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        _set_handler(None)

_MOST_SCANS = 500  # of a JPEG

# The most rows and columns of unfiltered pixels for each pixel of a thumbnail; how many of these are floats at once.
_OVERSAMPLING, _PIXELS_AT_ONCE = 4, 2_000_000

_TIFF_PHOTOMETRIC, _EXIF_ORIENTATION = 262, 0x0112
_TRANSPOSED = (5, 6, 7, 8)  # orientations in which rows and columns are swapped

# Otherwise Pillow imports its decoders when the first file is opened, and threads that import at once can lock up.
Image.init()


class _Budget:
    """Memory that threads share: a thread that needs more than is left waits, unless no other uses any."""

    def __init__(self, total):
        self.total, self._used = total, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def use(self, amount):
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + amount <= self.total)
            self._used += amount
        try:
            yield
        finally:
            with self._changed:
                self._used -= amount
                self._changed.notify_all()


_DECODING = _Budget(_DECODING_BYTES * cores())


def limit_memory(processors=None):
    """Set how much memory decoding may take at once, by the number of cores; None for all of this process's."""
    _DECODING.total = _DECODING_BYTES * cores(processors)


def read_image(path, size, exact=False, max_pixels=MAX_PIXELS):
    """Read an image file as the pixels that a model is given.

    The picture is turned as its EXIF orientation says; a JPEG is shrunk inside the decoder to the smallest of 1/1,
    1/2, 1/4 and 1/8 of its size whose shorter side is at least 512 pixels, and at least `size`; 16 bits are scaled to
    0-255, transparent pixels lie on white, of an animation or a multi-page file the first picture counts, of a camera's
    raw file the JPEG in it. Then comes bilinear resizing to a square without antialiasing: the published models were
    trained on such pixels, and antialiasing ruins their answers. The colour profile is applied to the pixels that
    resizing picks.

    Args:
        path: the file.
        size: height and width of the result in pixels.
        exact: the published pipeline's pixels instead: TensorFlow's decoder at full size, EXIF orientation, colour
            profile and transparency ignored. The formats that TensorFlow doesn't read are read at full size.
        max_pixels: a picture with more pixels than this is refused before it is decoded.

    Returns:
        float32 `(size, size, 3)`, red, green and blue, 0-255.

    Raises:
        ImageError: it is not a regular file, not an image, cut short, too large or otherwise unreadable.
    """
    return _read(path, max_pixels, lambda file, image: _pixels(file, image, size, exact))


def read_thumbnail(path, side, max_pixels=MAX_PIXELS):
    """Read an image file as a small picture for people: decoded and turned as by `read_image`, but antialiased and
    with its aspect kept.

    Args:
        path: the file.
        side: the longer side of the result in pixels; a smaller picture keeps its size.
        max_pixels: see `read_image`.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        ImageError: as of `read_image`.
    """

    def work(file, image):
        scale = min(1, side / max(image.width, image.height))  # which shrinking in the decoder changes
        shape = [max(1, round(scale * length)) for length in (image.width, image.height)]

        def shrink(decoded, mode, profile):
            rows, columns = map(_spread, _shape(decoded), (_OVERSAMPLING * length for length in reversed(shape)))
            picked = np.empty((len(rows), len(columns), 3), "uint8")
            count = -(-_PIXELS_AT_ONCE // len(columns))
            for part in (slice(start, start + count) for start in range(0, len(rows), count)):
                picked[part] = np.rint(_rgb(decoded, rows[part], columns, mode, profile))
            return np.asarray(Image.fromarray(picked).resize(shape, Image.LANCZOS))

        return _decoded(file, image, shrink, max(SHORTER_SIDE, min(shape)))

    return _read(path, max_pixels, work)


def identify(path, max_pixels=MAX_PIXELS):
    """Find out what an image file is by its header, without decoding it.

    Args:
        path: the file.
        max_pixels: see `read_image`.

    Returns:
        Its format as Pillow calls it, of a camera's raw file `TIFF` if it is one, else `RAW`; and the picture's longer
        side in pixels.

    Raises:
        ImageError: as of `read_image`, as far as the header shows it.
    """

    kind, side = _read(path, max_pixels, lambda file, image: (image.format, max(image.width, image.height)))
    with open(path, "rb") as file:
        start = file.read(16)
    return "TIFF" if is_tiff(start) else "RAW" if is_raw(start) else kind, side


def check_scans(jpeg):
    """Raise ValueError if decoding a JPEG, given as bytes, would take for ever.

    The decoder processes the whole picture for each scan. A scan takes a few bytes; ten are usual.
    """
    scans = jpeg.count(b"\xff\xda")
    if scans > _MOST_SCANS:
        raise ValueError(f"it has {scans:,} scans")


def _read(path, max_pixels, work):
    """Do some work on an open image file and its picture, which is not decoded yet.

    Args:
        path: the file.
        max_pixels: see `read_image`.
        work: called with an open file and its Pillow image or `Tiff`.

    Returns:
        What the work returns.

    Raises:
        ImageError: the file can't be read, for whatever reason.
    """
    with _opened(path) as file:
        # A decoder raises what it likes on a bad file: struct.error, KeyError, SyntaxError, …
        try:
            return work(*_identify(file, max_pixels))
        except (ImageError, MemoryError):
            raise
        except ImportError as error:
            raise ImageError(f"of a kind for which the package {error.name} is needed") from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno:  # the system's own, not Pillow's
                raise
            first = error
        # Whether a file is an image is decided by its picture, not by its metadata.
        try:
            file.seek(0)
            if is_tiff(file.read(4)):
                return work(file, Tiff(file, max_pixels))
            content = mended(file)
            if content is not None:
                return work(*_identify(io.BytesIO(content), max_pixels))
        except (ImageError, MemoryError):
            raise
        except Exception:
            pass
        raise ImageError(_reason(file)) from first


@contextlib.contextmanager
def _opened(path):
    """Yield an open file. Errors of the system in the block become `ImageError`s."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("a directory, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        if status.st_size == 0:
            raise ImageError("an empty file")
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        link = os.path.islink(path)
        raise ImageError("a link to a file that doesn't exist" if link else "the file doesn't exist") from None
    except MemoryError:
        raise ImageError("not enough memory to decode it") from None
    except ValueError:  # a zero byte in the path
        raise ImageError("no file can have this name") from None
    except OSError as error:  # whose text may contain the file's name, which messages have anyway
        raise ImageError(f"can't be read: {error.strerror or error}") from error


def _identify(file, max_pixels):
    """Read the header of an open file.

    Returns:
        The file, and its Pillow image or `Tiff`.

    Raises:
        ImageError: the picture is too large, or would take for ever.
        Exception: whatever Pillow and tifffile raise.
    """
    start = file.read(16)
    tiff = is_tiff(start)
    if tiff:
        check_directory(file)
    if start[4:8] == b"ftyp":
        _open_boxes()
        check_boxes(file)
    file.seek(0)
    try:
        image = Image.open(file, formats=FORMATS)
    except Exception:
        image = None
        if not (tiff or is_raw(start)):
            raise
    tags = {} if not tiff else image.tag_v2 if image else first_tags(file)
    preview = read_preview(file) if is_raw(start, tags) else None
    if preview is not None:
        file, image = preview
    elif tiff and (image is None or not is_ordinary(tags)):
        image = Tiff(file, max_pixels)
    elif image is None:
        raise ImageError("a camera's raw file of a kind that can't be read")
    if image.width * image.height > max_pixels:
        raise ImageError(f"{image.width} x {image.height} pixels are more than the {max_pixels} allowed")
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        file.seek(0)
        try:
            check_scans(file.read())
        except ValueError as error:
            raise ImageError(str(error)) from None
    return file, image


def _open_boxes():
    """Let Pillow open HEIC and, where it can't by itself, AVIF."""
    heif = imported("pi_heif")
    if "HEIF" not in Image.OPEN:
        # Files are read in parallel, and of each the main picture only.
        heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    if "AVIF" not in Image.OPEN:
        imported("pillow_avif")


def _reason(file):
    """Why a file can't be read that no decoder takes."""
    file.seek(0)
    tiff = is_tiff(file.read(4))
    name, other = what_it_is(file)
    if name is None:
        kinds = "JPEG, PNG, BMP, GIF, TIFF, WebP, JPEG 2000, HEIC, AVIF or a camera's raw file"
        return f"not an image, but {other}" if other else f"not an image that can be read ({kinds})"
    missing = missing_part_of_tiff(file) if tiff else missing_part(file)
    return f"damaged: its picture ({name}) can't be decoded" if missing == 0 else cut_short(missing)


def _pixels(file, image, size, exact):
    """See `read_image`."""
    if not exact:
        return _decoded(file, image, functools.partial(_resize, size), max(SHORTER_SIDE, size))
    with _DECODING.use(image.decoding_bytes if isinstance(image, Tiff) else 4 * image.width * image.height):
        return _exact_pixels(file, image, size)


def _decoded(file, image, shrink, shorter):
    """Decode an open file, whose header has been read as `image`.

    Args:
        file: the file.
        image: its Pillow image or `Tiff`.
        shrink: called with what was decoded, its mode and ICC profile, as `_rgb` takes them; returns pixels
            `(height, width, 3)`.
        shorter: how many pixels the shorter side of a JPEG that is shrunk in the decoder has at least.

    Returns:
        These pixels, turned as the EXIF orientation says.
    """
    with _DECODING.use(_decoding_bytes(image, shorter)):
        decoded = _decode_jpeg(file, image, shorter)
        if decoded is None:
            if not isinstance(image, Tiff):
                image.draft(None, (shorter, shorter))
            image.load()
        orientation = _orientation(image)
        pixels = shrink(image if decoded is None else decoded, image.mode, image.info.get("icc_profile"))
        return _turn(pixels, orientation)


def _shrinking(image, shorter):
    """The factor by which a JPEG is shrunk in its decoder: 1, 2, 4 or 8; its shorter side keeps `shorter` pixels."""
    most = min(image.width, image.height) // shorter
    return next(factor for factor in (8, 4, 2, 1) if most >= factor or factor == 1)


def _decoding_bytes(image, shorter):
    """About how much memory decoding a Pillow image or `Tiff` takes."""
    if isinstance(image, Tiff):
        return image.decoding_bytes
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        # A progressive JPEG is held whole as coefficients of 2 bytes, whatever it is shrunk to.
        return 4 * pixels // _shrinking(image, shorter) ** 2 + (6 * pixels if image.info.get("progressive") else 0)
    return {"PNG": 4, "BMP": 4, "DIB": 4, "HEIF": 12, "AVIF": 12}.get(image.format, 8) * pixels


def _decode_jpeg(file, image, shorter):
    """Decode an ordinary JPEG, whose header Pillow has read as `image`, faster than Pillow does and with equal pixels.

    Returns:
        uint8 `(height, width, 3)`, shrunk, which this thread's next picture overwrites; None for a file that is not an
        ordinary JPEG or not whole: left to Pillow.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None
    factor = _shrinking(image, shorter)
    width, height = -(-image.width // factor), -(-image.height // factor)
    file.seek(0)
    shape = {"min_height": height, "min_width": width}
    try:
        pixels = simplejpeg.decode_jpeg(file.read(), "RGB", buffer=_memory(3 * width * height), **shape)
    except (ValueError, KeyError):
        return None
    return pixels if pixels.shape == (height, width, 3) else None


def _memory(count):
    """So many bytes to write to, which this thread uses again and again: the system clears those that it gives out."""
    if count > _REUSED_BYTES:
        return np.empty(count, "uint8")
    if len(getattr(_own, "memory", ())) < count:
        _own.memory = np.empty(count, "uint8")
    return _own.memory[:count]


def _resize(size, decoded, mode="RGB", profile=None):
    """Resize to a square, bilinearly without antialiasing.

    Args:
        size: height and width of the result in pixels.
        decoded, mode, profile: see `_rgb`.

    Returns:
        float32 `(size, size, 3)`, 0-255.
    """
    height, width = _shape(decoded)
    rows, row_weights = _lattice(height, size)
    columns, column_weights = _lattice(width, size)
    corners = _rgb(decoded, rows, columns, mode, profile).reshape(2 * size, 6 * size)
    # First along the rows, then along the columns, as TensorFlow does; in place and flat, since that is twice as fast.
    before, behind = corners[:, : 3 * size], corners[:, 3 * size :]
    lines = behind - before
    lines *= np.repeat(column_weights, 3)
    lines += before
    before, behind = lines[:size], lines[size:]
    pixels = behind - before
    pixels *= row_weights[:, None]
    pixels += before
    return pixels.reshape(size, size, 3)


def _shape(decoded):
    """The height and width of what was decoded, see `_rgb`."""
    return decoded.shape[:2] if isinstance(decoded, np.ndarray) else (decoded.height, decoded.width)


def _rgb(decoded, rows, columns, mode, profile):
    """The colours where rows and columns cross.

    Args:
        decoded: a loaded Pillow image or `Tiff`; or uint8 `(height, width, 3)`.
        rows, columns: int64, their numbers.
        mode: for an array, L if its bands are equal, since the picture is grey.
        profile: the bytes of the ICC profile that is applied; None for none.

    Returns:
        float32 `(rows, columns, 3)`, 0-255.
    """
    if isinstance(decoded, np.ndarray):
        mode, colours, opacity = mode, decoded.take(rows, axis=0).take(columns, axis=1).astype("float32"), None
        colours = colours[..., :1] if mode == "L" and profile else colours
    elif isinstance(decoded, Tiff):
        mode, colours, opacity = decoded.pick(rows, columns)
    else:
        mode, colours, opacity = _colours(_pick(decoded, rows, columns), decoded, profile)
    crossings = to_rgb(colours, mode, profile) if colours.shape[2] != 3 or profile or mode == "LAB" else colours
    if opacity is not None:  # on white
        crossings = 255 + (crossings - 255) * opacity
    return crossings


def _spread(length, most):
    """Up to so many numbers of pixels along an axis of `length` pixels, evenly spread."""
    count = min(length, most)
    return ((np.arange(count) + 0.5) * length / count).astype("int64")


@functools.lru_cache(maxsize=4096)
def _lattice(length, size):
    """The pixels that bilinear resizing with half-pixel centres reads along an axis of `length` pixels, in float32
    as TensorFlow computes it.

    Returns:
        int64 `(2 * size,)`: for each output pixel the input pixel before it, then for each the one behind it; and
        float32 `(size,)`: the weight of the one behind.
    """
    scale = np.float32(length) / np.float32(size)
    position = (np.arange(size, dtype="float32") + np.float32(0.5)) * scale - np.float32(0.5)
    before = np.floor(position)
    behind = np.minimum(np.ceil(position), length - 1).astype("int64")
    return np.concatenate([before.astype("int64").clip(0, behind), behind]), position - before


def _pick(image, rows, columns):
    """The pixels of a Pillow image where `rows` and `columns` cross, in the image's own mode, as an array."""
    if image.mode == "1":
        image = image.convert("L")
    if image.width * image.height < ROWWISE_PIXELS:
        return np.asarray(image).take(rows, axis=0).take(columns, axis=1)
    different, places = np.unique(rows, return_inverse=True)
    lines = (np.asarray(image.crop((0, row, image.width, row + 1)))[0] for row in different.tolist())
    return np.stack([line.take(columns, axis=0) for line in lines])[places]


def _colours(pixels, image, profile):
    """The colours of pixels in the mode of the Pillow image they were picked from.

    Returns:
        Their mode, L, RGB or CMYK; float32 `(rows, columns, bands)`, 0-255; and their opacity, float32
        `(rows, columns, 1)`, 0-1, or None.
    """
    transparency = image.info.get("transparency")
    if image.mode == "RGB" and transparency is None:
        return "RGB", pixels.astype("float32"), None
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = pixels[..., None].astype("float32") * np.float32(255 / 65535)
        # White may be zero in a TIFF, which Pillow heeds up to 8 bits only.
        return "L", 255 - grey if getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0 else grey, None
    mode = "L" if image.mode == "1" else image.mode
    part = Image.frombytes(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes())
    if mode in ("P", "PA"):
        part.putpalette(image.palette)
    if transparency is not None:
        part.info["transparency"] = transparency
    elif mode == "L":
        return "L", pixels[..., None].astype("float32"), None
    elif mode == "CMYK" and profile:
        return "CMYK", pixels.astype("float32"), None
    elif mode not in ("RGBA", "LA", "PA"):
        return "RGB", np.asarray(part.convert("RGB"), dtype="float32"), None
    colours = np.asarray(part.convert("RGBA"), dtype="float32")
    bands = 1 if mode in ("L", "LA") else 3
    return "RGB" if bands == 3 else "L", colours[:, :, :bands], colours[:, :, 3:] / 255


def _orientation(image):
    """The EXIF orientation of a loaded Pillow image or `Tiff`, 1-8; 1 where there is none or it can't be read."""
    if isinstance(image, Tiff):
        return image.orientation
    try:
        # After `load`, since newer Pillows turn a TIFF by themselves while loading and then drop the tag.
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # A broken EXIF block is no reason to refuse a picture.
        return 1


def _turn(pixels, orientation):
    """Turn pixels `(height, width, 3)` as the EXIF orientation says. Resizing commutes with it."""
    if orientation in _TRANSPOSED:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _exact_pixels(file, image, size):
    """The published pipeline's pixels of an open file, whose header has been read as `image`."""
    import tensorflow as tf  # Here, since nothing else of this module needs it.

    if image.format in ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF"):
        file.seek(0)
        try:
            decoded = tf.io.decode_image(file.read(), channels=3, expand_animations=False)
            return tf.image.resize(decoded, (size, size)).numpy()
        except tf.errors.InvalidArgumentError:
            pass  # Such as a JPEG in CMYK. If the file is cut short, Pillow says so below, too.
    image.load()
    return _resize(size, image)
