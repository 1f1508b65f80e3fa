"""Files whose metadata are broken, that end too early, or that are something else."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lib.data.damage import cut_short
from lib.data.images import ImageError, read_image

PIXELS = np.random.default_rng(2).integers(0, 255, (24, 32, 3), dtype="uint8").repeat(8, axis=0).repeat(8, axis=1)


def encoded(kind, **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data, wrong=0):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)


def segment(marker, data, length=None):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2 if length is None else length) + data


LONG = zlib.compress(bytes(9_000_000))
CHUNKS = {
    "long text": chunk(b"zTXt", b"Comment\0\0" + LONG),
    "long XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
    "many long texts": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_900_000))) * 20,
    "long profile": chunk(b"iCCP", b"name\0\0" + LONG),
    "profile that is none": chunk(b"iCCP", b"name\0\0" + b"not packed"),
    "profile packed otherwise": chunk(b"iCCP", b"name\0\7" + LONG),
    "empty profile": chunk(b"iCCP", b""),
    "wrong checksum of a text": chunk(b"tEXt", b"Comment\0fern", 1),
    "wrong checksum of a size": chunk(b"pHYs", bytes(9), 1),
    "wrong checksum of a profile": chunk(b"iCCP", b"name\0\0" + zlib.compress(b"x"), 1),
    "short size": chunk(b"pHYs", b"\0"),
    "short gamma": chunk(b"gAMA", b""),
    "short colours": chunk(b"cHRM", b"\0\0"),
    "short sRGB": chunk(b"sRGB", b""),
    "short time": chunk(b"tIME", b"\0"),
    "broken Exif": chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
    "text of nothing": chunk(b"iTXt", b""),
    "unknown text compression": chunk(b"zTXt", b"Comment\0\7abc"),
    "animation": chunk(b"acTL", b"\0"),
    "frame": chunk(b"fcTL", b"\0"),
}
SEGMENTS = {
    "empty JFIF": segment(0xE0, b""),
    "short JFIF": segment(0xE0, b"JFIF\0\1"),
    "long JFIF": segment(0xE0, b"JFIF\0\1\1\2\0"),
    "no thumbnail": segment(0xE0, b"JFXX\0"),
    "short Adobe": segment(0xEE, b"Adobe"),
    "empty Adobe": segment(0xEE, b""),
    "short ICC": segment(0xE2, b"ICC_PROFILE\0"),
    "ICC without its parts": segment(0xE2, b"ICC_PROFILE\0\2\3abc"),
    "short multi-picture": segment(0xE2, b"MPF\0II*\0"),
    "broken Exif": segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "short Photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\4"),
    "long comment": segment(0xFE, bytes(65_000)) * 30,
    "XMP that is none": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<"),
}


@pytest.fixture
def read(tmp_path):
    def read(content, **options):
        (tmp_path / "a.jpg").write_bytes(content)
        return read_image(tmp_path / "a.jpg", 32, **options)

    return read


@pytest.mark.parametrize("exact", [False, True])
def test_a_png_is_read_whatever_its_metadata(read, exact):
    content = encoded("PNG")
    first, last = content.index(b"IDAT") - 4, content.index(b"IEND") - 4
    expected = read(content, exact=exact)
    for name, part in CHUNKS.items():
        for place in (first, last):
            pixels = read(content[:place] + part + content[place:], exact=exact)
            np.testing.assert_array_equal(pixels, expected, err_msg=name)
    for cut in (1, 4, 8, 9, 12):  # of the end, which is a chunk without data
        np.testing.assert_array_equal(read(content[:-cut], exact=exact), expected, err_msg=f"{cut}")


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_is_read_whatever_its_metadata(read, exact, options):
    content = encoded("JPEG", quality=90, **options)
    expected = read(content, exact=exact)
    for name, part in SEGMENTS.items():
        for start in (2, 20):  # in place of the right JFIF segment, and behind it
            pixels = read(content[:2] + (content[2:20] if start == 20 else b"") + part + content[20:], exact=exact)
            np.testing.assert_array_equal(pixels, expected, err_msg=name)
    for cut in (1, 2):  # the end mark
        np.testing.assert_array_equal(read(content[:-cut], exact=exact), expected)
    for cut in (3, 4, 8):
        with pytest.raises(ImageError, match="cut short"):
            read(content[:-cut], exact=exact)


def test_orientation_and_profile_are_kept_of_a_file_that_is_mended(read):
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, place in (("JPEG", 2), ("PNG", 33)):
        content = encoded(kind, exif=exif)
        upright = read(content)
        broken = SEGMENTS["short Adobe"] if kind == "JPEG" else CHUNKS["long text"]
        np.testing.assert_array_equal(read(content[:place] + broken + content[place:]), upright)
        assert np.abs(upright - read(encoded(kind))).mean() > 20


def test_a_progressive_jpeg_without_its_last_scans_is_cut_short(read):
    content = encoded("JPEG", progressive=True)
    places = [place for place in range(len(content)) if content[place : place + 2] == b"\xff\xda"]
    assert len(places) > 5
    for place in places[1:]:
        end = content.rindex(b"\xff\xc4", 0, place) if b"\xff\xc4" in content[place - 300 : place] else place
        for cut in (place, end):
            with pytest.raises(ImageError, match="cut short"):
                read(content[:cut])


def test_how_much_is_missing_is_said(read):
    for kind, options in (
        ("JPEG", {}),
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ):
        content = encoded(kind, **options)
        read(content)
        for kept, words in ((0.5, "about half is missing"), (0.25, "about three quarters is missing")):
            with pytest.raises(ImageError) as caught:
                read(content[: int(kept * len(content))])
            assert str(caught.value) == f"cut short: {words}", (kind, options)
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert("CMYK").save(file, "JPEG")
    thumbnail = segment(0xE1, b"Exif\0\0" + encoded("JPEG")[:20_000] + b"\xff\xd9")  # which has an end of its own
    with_thumbnail = encoded("JPEG")[:2] + thumbnail + encoded("JPEG")[2:]
    read(with_thumbnail)
    for content, kept, words in (
        (file.getvalue(), 0.5, "about half"),
        (encoded("JPEG"), 300, "nearly all"),
        (with_thumbnail, len(thumbnail) // 2, "nearly all"),
        (with_thumbnail, len(thumbnail) + len(encoded("JPEG")) // 2, "about half"),
    ):
        with pytest.raises(ImageError, match=f"^cut short: {words} is missing$"):
            read(content[: kept if kept > 1 else int(kept * len(content))])
    for kind, options in (("GIF", {}), ("JPEG", {"progressive": True})):
        with pytest.raises(ImageError, match="cut short"):
            read(encoded(kind, **options)[:-3000])
    assert cut_short(0.97) == "cut short: nearly all is missing"
    assert cut_short(0.01) == "cut short: a little is missing"


OTHERS = {
    "a web page": b"\r\n<!DOCTYPE html><html><body>404</body></html>",
    "an SVG drawing": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "an XML text": b'<?xml version="1.0"?><record/>',
    "a PDF": b"%PDF-1.7\n%\xe2\xe3",
    "a Photoshop file": b"8BPS\0\1" + bytes(20),
    "a zip archive": b"PK\3\4" + bytes(20),
    "a film": b"\0\0\0\x18ftypmp42" + bytes(20),
    "a Mac's notes on a file": b"\0\5\x16\7\0\2\0\0Mac OS X        ",
    "nothing but zeros": bytes(4000),
    "a text": b"species\tcollector\nfern\tBanks\n",
    "JPEG XL": b"\xff\x0a" + bytes(20),
    "a pointer to a file in Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
}


def test_what_is_no_image_is_named(read):
    for name, content in OTHERS.items():
        with pytest.raises(ImageError, match=f"^not an image, but {name}"):
            read(content)
    with pytest.raises(ImageError, match=r"^not an image that can be read \(JPEG, "):
        read(b"\x01\x93\xf0" * 100)


def test_reasons_hold_no_words_of_decoders(read):
    rng = np.random.default_rng(8)
    for kind, options in (("JPEG", {}), ("PNG", {}), ("GIF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {})):
        content = encoded(kind, **options)
        refused = 0
        for _ in range(15):
            spoilt = bytearray(content)
            for place in rng.integers(0, len(content), 40):
                spoilt[place] = rng.integers(256)
            try:
                read(bytes(spoilt))
            except ImageError as error:
                refused += 1
                start = ("damaged: ", "cut short: ", "not an image", "a TIFF of a kind", "no pixel is a number")
                assert str(error).startswith(start) or str(error).endswith(("allowed", "scans")), error
        assert refused > 5, kind


@pytest.mark.parametrize("exact", [False, True])
def test_the_pictures_that_were_misread_or_refused(shared, exact):
    folder = shared / "cases" / "pictures"
    colours, grey, jpeg = (
        read_image(folder / f"reference{name}", 96, exact=exact) for name in (".png", "-grey.png", ".jpg")
    )
    tried = 0
    for path in folder.glob("[rw]*-*"):
        expected, most = (jpeg if path.suffix == ".jpg" else colours), 1e-3
        if path.name == "wrong-uint32.tif":
            expected = (grey - 56) * (255 / 199)  # its darkest grey is 56, its brightest 255
        elif path.name == "wrong-colormap-0-255.tif":
            most = 3  # its colours are fewer
        elif path.name == "refused-rgb-float32.tif":
            most = 10  # it is half as wide
        elif path.name == "reference-grey.png":
            continue
        assert np.abs(read_image(path, 96, exact=exact) - expected).mean() < most, path.name
        tried += 1
    assert tried == 12
