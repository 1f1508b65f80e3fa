"""The picture that a camera puts into its raw file, ready to be looked at, beside the numbers of its sensor."""

import io

from PIL import Image

from lib.data.damage import ImageError
from lib.system.parallel import imported

_STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")

# Tags of a TIFF. Most raw files are TIFFs, of which the first picture is a small one.
_SUBFILE_TYPE, _PHOTOMETRIC, _DIRECTORIES, _DNG_VERSION = 254, 262, 330, 50706
_OF_SENSORS = (32803, 34892)  # a colour filter array, and linear raw

_ORIENTATION = 0x0112  # of EXIF
_TURNS = {3: 3, 5: 8, 6: 6}  # LibRaw's numbers -> those of EXIF


def is_raw(start, tags=None):
    """Whether a file may be a camera's raw file.

    Args:
        start: its first 16 bytes.
        tags: of a TIFF, those of its first picture, as a dictionary.
    """
    if start.startswith(_STARTS) or start[4:12] == b"ftypcrx " or start[8:10] == b"CR":
        return True
    tags = tags or {}
    of_sensor = _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _OF_SENSORS
    return of_sensor or (_DIRECTORIES in tags and tags.get(_SUBFILE_TYPE, 0) & 1 == 1)


def read_preview(file):
    """The largest ready picture of a raw file.

    Returns:
        An open file and its Pillow image, a JPEG; None if it is no raw file or that picture is not compressed.

    Raises:
        ImageError: it has no such picture.
    """
    rawpy = imported("rawpy")
    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            preview, turn = raw.extract_thumb(), _TURNS.get(raw.sizes.flip, 1)
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        raise ImageError("a camera's raw file without a ready picture") from None
    except rawpy.LibRawFileUnsupportedError:
        return None
    except rawpy.LibRawError:
        raise ImageError("a camera's raw file that is damaged") from None
    if preview.format != rawpy.ThumbFormat.JPEG:
        return None  # not touched: in a damaged file it may be shorter than its array says
    found = io.BytesIO(preview.data)
    image = Image.open(found, formats=("JPEG",))
    if _ORIENTATION not in image.getexif():
        image.getexif()[_ORIENTATION] = turn
    return found, image
