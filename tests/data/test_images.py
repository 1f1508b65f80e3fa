"""From file to pixels: formats, orientation, depth, transparency, shrinking, and files that are damaged."""

import contextlib
import io
import os
import struct
import threading
import zlib

import numpy as np
import pytest
from make_heic_fixtures import FOLDER as HEIC
from make_heic_fixtures import pixels as pixels_of_heic
from PIL import Image, ImageDraw

from lib.data import images
from lib.data.images import ImageError, read_image, read_thumbnail
from lib.data.listing import is_image_name

FORMATS = {
    ".jpg": {"format": "JPEG", "quality": 95},
    ".png": {"format": "PNG"},
    ".bmp": {"format": "BMP"},
    ".gif": {"format": "GIF"},
    ".tif": {"format": "TIFF"},
    ".tiff": {"format": "TIFF", "compression": "tiff_lzw"},
    ".webp": {"format": "WEBP", "lossless": True},
    ".jp2": {"format": "JPEG2000"},
    ".jpeg": {"format": "JPEG", "progressive": True},
}


def picture(width=60, height=40, mode="RGB"):
    """A picture with a corner, a bar and a slope, so that turning or shifting it shows."""
    slope = np.linspace(30, 220, width)[None, :, None] * np.ones((height, 1, 3)) * (1, 0.8, 0.6)
    image = Image.fromarray(slope.astype("uint8"))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 4, height // 4), fill=(200, 20, 20))
    draw.line((width // 2, 0, width // 2, height // 2), fill=(0, 0, 160), width=3)
    return image.convert(mode)


def bilinear(array, size):
    """What TensorFlow makes of uint8 or float pixels."""
    import tensorflow as tf

    return tf.image.resize(array, (size, size)).numpy()


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("size", [1, 7, 24, 96])
@pytest.mark.parametrize(("width", "height"), [(60, 40), (33, 97), (1, 1), (500, 3)])
def test_resizing_is_tensorflows_bilinear_without_antialiasing(tmp_path, size, width, height):
    path = saved(tmp_path, picture(width, height), "a.png")
    expected = bilinear(np.asarray(Image.open(path)), size)
    pixels = read_image(path, size)
    assert pixels.shape == (size, size, 3) and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, expected, atol=1e-3)


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_is_read_by_content_whatever_its_name(tmp_path, ending):
    path = saved(tmp_path, picture(), "a" + ending, **FORMATS[ending])
    expected = bilinear(np.asarray(Image.open(path).convert("RGB")), 24)
    misnamed = tmp_path / "b.bmp"
    misnamed.write_bytes(path.read_bytes())
    for name in (path, misnamed):
        np.testing.assert_allclose(read_image(name, 24), expected, atol=1e-3)


def test_heic_is_read_turned_on_white_and_never_in_half(tmp_path):
    expected = bilinear(pixels_of_heic(), 32)
    for name in ("plain", "turned", "half-transparent"):
        found = read_image(HEIC / f"{name}.heic", 32)
        stored = np.rot90(pixels_of_heic(), 3) if name == "turned" else pixels_of_heic()
        expected = bilinear(stored, 32)
        if name == "half-transparent":
            expected[:, :16] = 255
        away = np.abs(found - expected)
        away[:, 15:17] = 0  # where transparency begins
        assert away.max() < 8, name
        assert read_thumbnail(HEIC / f"{name}.heic", 96).shape == ((96, 64, 3) if name == "turned" else (64, 96, 3))
    np.testing.assert_array_equal(read_image(HEIC / "plain.heic", 32, exact=True), read_image(HEIC / "plain.heic", 32))
    content = (HEIC / "plain.heic").read_bytes()
    for part in np.linspace(0.02, 0.99, 12):
        (tmp_path / "a.heic").write_bytes(content[: int(part * len(content))])
        with pytest.raises(ImageError, match="^cut short"):
            read_image(tmp_path / "a.heic", 32)
    with pytest.raises(ImageError, match="96 x 64 pixels are more"):
        read_image(HEIC / "plain.heic", 32, max_pixels=6000)


def test_avif_is_read(tmp_path):
    images._open_boxes()  # which lets an old Pillow write it, too
    path = saved(tmp_path, picture(), "a.avif", quality=95)
    assert np.abs(read_image(path, 24) - bilinear(np.asarray(picture()), 24)).mean() < 4
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageError, match="^cut short"):
        read_image(path, 24)


def test_an_ordinary_jpeg_has_the_pixels_that_pillow_gives(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (130, 170, 3), dtype="uint8")).resize((1700, 1301))
    paths = [
        saved(tmp_path, noise, f"{subsampling}-{progressive}.jpg", subsampling=subsampling, progressive=progressive)
        for subsampling in (0, 1, 2)
        for progressive in (False, True)
    ]
    paths.append(saved(tmp_path, noise.convert("L"), "grey.jpg"))
    fast = [read_image(path, 96) for path in paths]
    monkeypatch.setattr(images, "_decode_jpeg", lambda file, image, shorter: None)
    for path, pixels in zip(paths, fast):
        np.testing.assert_array_equal(pixels, read_image(path, 96))


@pytest.mark.parametrize(
    ("width", "height", "shrunk"),
    [(511, 2000, 1), (1023, 4000, 1), (1024, 1100, 2), (2047, 2100, 2), (2049, 2048, 4), (4100, 4096, 8)],
)
def test_a_jpeg_is_shrunk_in_its_decoder_as_far_as_512_pixels(tmp_path, width, height, shrunk):
    path = saved(tmp_path, picture(width, height), "a.jpg")
    reduced = Image.open(path)
    reduced.draft(None, (512, 512))
    reduced.load()
    assert reduced.size == (-(-width // shrunk), -(-height // shrunk))
    np.testing.assert_allclose(read_image(path, 96), bilinear(np.asarray(reduced), 96), atol=1e-3)


def test_a_model_of_large_images_gets_pixels_that_there_are(tmp_path):
    path = saved(tmp_path, picture(1500, 1400), "a.jpg")
    np.testing.assert_allclose(read_image(path, 750), bilinear(np.asarray(Image.open(path)), 750), atol=1e-3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_exif_orientation_is_applied(tmp_path, orientation, name):
    turns = {
        2: [Image.FLIP_LEFT_RIGHT],
        3: [Image.ROTATE_180],
        4: [Image.FLIP_TOP_BOTTOM],
        5: [Image.TRANSPOSE],
        6: [Image.ROTATE_90],
        7: [Image.TRANSVERSE],
        8: [Image.ROTATE_270],
    }
    upright = picture(80, 48)
    stored = upright
    for turn in turns.get(orientation, []):
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name.endswith("webp") else {"quality": 100, "subsampling": 0}
    path = saved(tmp_path, stored, name, exif=exif, **(options if name != "a.png" and name != "a.tif" else {}))
    expected = bilinear(np.asarray(upright), 16)
    np.testing.assert_allclose(read_image(path, 16), expected, atol=6 if name == "a.jpg" else 1e-2)


def test_a_broken_exif_block_does_not_matter(tmp_path):
    path = saved(tmp_path, picture(), "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    assert read_image(path, 24).shape == (24, 24, 3)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_are_scaled_and_never_clipped(tmp_path, ending):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype("uint16")
    path = saved(tmp_path, Image.fromarray(values), "a" + ending)
    expected = bilinear((values / 257.0)[:, :, None].repeat(3, 2), 32)
    np.testing.assert_allclose(read_image(path, 32), expected, atol=0.01)


def test_thirty_two_bits_are_stretched_to_the_range_of_the_picture(tmp_path):
    values = np.linspace(-3, 8, 64 * 64).reshape(64, 64).astype("float32")
    path = saved(tmp_path, Image.fromarray(values), "a.tif")
    pixels = read_image(path, 64)
    assert pixels.min() == pytest.approx(0, abs=0.01) and pixels.max() == pytest.approx(255, abs=0.01)
    flat = saved(tmp_path, Image.fromarray(np.full((8, 8), 7, "float32")), "b.tif")
    assert np.isfinite(read_image(flat, 8)).all()


def tiff(path, bits, photometric, data, side):
    """Write a grey TIFF of one strip, little-endian, as cameras and scanners do and Pillow does not."""
    tags = [(256, side), (257, side), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, side)]
    tags.append((279, len(data)))
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory)
    return path


def test_a_tiff_says_how_many_bits_are_white_and_whether_white_is_zero(tmp_path):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype("uint16")
    grey = bilinear((values / 257.0)[:, :, None].repeat(3, 2), 32)
    black_is_zero = tiff(tmp_path / "a.tif", 16, 1, values.tobytes(), 64)
    white_is_zero = tiff(tmp_path / "b.tif", 16, 0, values.tobytes(), 64)
    np.testing.assert_allclose(read_image(black_is_zero, 32), grey, atol=0.01)
    np.testing.assert_allclose(read_image(white_is_zero, 32), 255 - grey, atol=0.01)
    twelve = (values >> 4).reshape(-1, 2).astype("uint32")
    packed = (twelve[:, 0] << 12) | twelve[:, 1]
    data = np.stack([packed >> 16, packed >> 8, packed], axis=1).astype("uint8").tobytes()
    np.testing.assert_allclose(read_image(tiff(tmp_path / "c.tif", 12, 1, data, 64), 32), grey, atol=0.1)


def test_nan_and_infinity_are_dark(tmp_path):
    values = np.linspace(10, 20, 64).reshape(8, 8).astype("float32")
    values[0, 0], values[0, 1] = np.nan, np.inf
    pixels = read_image(saved(tmp_path, Image.fromarray(values), "a.tif"), 8)
    assert np.isfinite(pixels).all() and pixels[0, :2].max() == 0 and pixels.max() == pytest.approx(255)
    nothing = saved(tmp_path, Image.fromarray(np.full((8, 8), np.nan, "float32")), "b.tif")
    with pytest.raises(ImageError, match="no pixel is a number"):
        read_image(nothing, 8)


def test_one_bit_grey_palette_and_cmyk(tmp_path):
    cases = {"a.png": "1", "b.png": "L", "c.png": "P", "d.gif": "P", "e.jpg": "CMYK", "f.tif": "CMYK"}
    for name, mode in cases.items():
        image = picture(mode=mode)
        path = saved(tmp_path, image, name)
        expected = bilinear(np.asarray(Image.open(path).convert("RGB")), 24)
        np.testing.assert_allclose(read_image(path, 24), expected, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_lie_on_white(tmp_path, mode):
    image = picture().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    if mode == "P":
        image = picture().convert("P")
        image.info["transparency"] = image.getpixel((1, 1))
        path = saved(tmp_path, image, "a.png", transparency=image.getpixel((1, 1)))
        assert read_image(path, 96)[0, 0].tolist() == [255, 255, 255]
        return
    path = saved(tmp_path, image.convert(mode), "a.png")
    flat = Image.new("RGBA", image.size, "white")
    flat.alpha_composite(image.convert(mode).convert("RGBA"))
    np.testing.assert_allclose(read_image(path, 24), bilinear(np.asarray(flat.convert("RGB")), 24), atol=1)


def test_a_transparent_colour_of_a_png_lies_on_white(tmp_path):
    path = saved(tmp_path, picture(), "a.png", transparency=(200, 20, 20))
    assert read_image(path, 96)[0, 0].tolist() == [255, 255, 255]


def test_of_several_pictures_the_first_counts(tmp_path):
    first, second = picture(), Image.new("RGB", (60, 40), "green")
    for name in ("a.gif", "a.tif", "a.webp", "a.mpo"):
        options = {"lossless": True} if name == "a.webp" else {}
        path = saved(tmp_path, first, name, save_all=True, append_images=[second], **options)
        alone = Image.open(path)
        alone.seek(0)
        expected = bilinear(np.asarray(alone.convert("RGB")), 24)
        np.testing.assert_allclose(read_image(path, 24), expected, atol=1e-2, err_msg=name)
        assert read_image(path, 24)[0, 0, 0] > 150


def test_a_large_picture_is_read_row_by_row_with_the_same_result(tmp_path, monkeypatch):
    paths = [saved(tmp_path, picture(300, 200, mode), f"{mode}.png") for mode in ("RGB", "RGBA", "P", "L", "1", "LA")]
    paths.append(saved(tmp_path, Image.fromarray(np.arange(60000, dtype="uint16").reshape(200, 300)), "I.png"))
    whole = [read_image(path, 32) for path in paths]
    monkeypatch.setattr(images, "ROWWISE_PIXELS", 0)
    for path, pixels in zip(paths, whole):
        np.testing.assert_array_equal(read_image(path, 32), pixels)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_cut_short_is_an_error_never_half_a_picture(tmp_path, ending):
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype="uint8"))
    stream = io.BytesIO()
    image.save(stream, **FORMATS[ending])
    content = stream.getvalue()
    path = tmp_path / ("a" + ending)
    path.write_bytes(content)
    whole = read_image(path, 32)
    for part in np.linspace(0.02, 0.98, 25):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(ImageError):
            read_image(path, 32)
    for cut in (1, 2, 8, 20):  # what follows the pixels may be missing, the pixels not
        path.write_bytes(content[:-cut])
        with contextlib.suppress(ImageError):
            np.testing.assert_array_equal(read_image(path, 32), whole)


def test_a_file_that_is_not_a_picture_is_an_error_with_its_reason(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture at all")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "script.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in (
        ("empty.jpg", "empty"),
        ("text.jpg", "not an image"),
        ("folder.jpg", "directory"),
        ("dangling.jpg", "a link to a file that doesn't exist"),
        ("missing.jpg", "the file doesn't exist"),
        ("script.eps", "not an image"),
        ("pipe.jpg", "not a regular file"),
    ):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name, 32)


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    path = saved(tmp_path, picture(), "a.png")
    assert read_image(path, 8, max_pixels=2400).shape == (8, 8, 3)
    with pytest.raises(ImageError, match=r"60 x 40 pixels are more than the 2399 allowed"):
        read_image(path, 8, max_pixels=2399)
    # A header that promises 4 gigapixels, with no pixels behind it.
    bomb = path.read_bytes()
    header = b"IHDR" + (65000).to_bytes(4, "big") * 2 + bomb[24:29]
    path.write_bytes(bomb[:12] + header + zlib.crc32(header).to_bytes(4, "big") + bomb[33:])
    with pytest.raises(ImageError, match="65000 x 65000 pixels"):
        read_image(path, 8)


def test_a_small_picture_that_would_take_for_ever_is_refused(tmp_path):
    content = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), "uint8")).save(content, "JPEG", progressive=True)
    small = content.getvalue()
    last = small.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(small)
    assert read_image(tmp_path / "a.jpg", 16).shape == (16, 16, 3)
    (tmp_path / "a.jpg").write_bytes(small[:-2] + small[last:-2] * 600 + small[-2:])
    with pytest.raises(ImageError, match="it has 610 scans"):
        read_image(tmp_path / "a.jpg", 16)


def test_a_file_that_may_not_be_read_is_an_error_with_its_reason(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", str(arguments[0]))

    path = saved(tmp_path, picture(), "a.png")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ImageError, match="^can't be read: Permission denied$"):
        read_image(path, 16)
    monkeypatch.undo()
    assert read_image(path, 16).shape == (16, 16, 3)


def test_exact_pixels_are_the_published_pipelines(tmp_path):
    import tensorflow as tf

    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, picture(1400, 1200), "a.jpg", exif=exif)
    decoded = tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False)
    np.testing.assert_array_equal(read_image(path, 96, exact=True), tf.image.resize(decoded, (96, 96)).numpy())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError):
        read_image(path, 24, exact=True)
    path = saved(tmp_path, picture(), "b.tif")  # which TensorFlow does not read
    np.testing.assert_allclose(read_image(path, 24, exact=True), bilinear(np.asarray(picture()), 24), atol=1e-2)


def test_memory_for_decoding_is_by_the_cores_that_read(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    budget = monkeypatch.setattr(images, "_DECODING", images._Budget(0)) or images._DECODING
    for processors, expected in ((None, 8), (3, 3), (20, 8)):
        images.limit_memory(processors)
        assert budget.total == 200_000_000 * expected


def test_memory_for_decoding_is_shared_among_threads():
    budget = images._Budget(10)
    together, most = [], []

    def work(amount):
        for _ in range(30):
            with budget.use(amount):
                together.append(amount)
                most.append(sum(together))
                together.remove(amount)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (4, 6, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert max(most) == 50  # who needs more than there is gets it alone


def test_the_golden_pictures_are_all_read(shared):
    paths = [path for path in (shared / "images").rglob("*") if is_image_name(path.name)]
    assert len(paths) == 140
    for path in paths:
        pixels = read_image(path, 96)
        assert pixels.shape == (96, 96, 3) and pixels.min() >= 0 and pixels.max() <= 255


def test_ordinary_jpegs_are_decoded_into_memory_that_is_used_again_and_nothing_keeps_it(tmp_path):
    decoded, results, copies = [], [], []
    for number in range(2):
        path = str(tmp_path / f"{number}.jpg")
        noise = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype="uint8")
        Image.fromarray(noise).save(path)
        with open(path, "rb") as file, Image.open(file) as image:
            decoded.append(images._decode_jpeg(file, image, 512))
        results += [read_image(path, 60), read_thumbnail(path, 80)]
        copies += [each.copy() for each in results[-2:]]
    assert decoded[0] is not None and np.shares_memory(*decoded)
    for result, copy in zip(results, copies):
        np.testing.assert_array_equal(result, copy)
        assert not np.shares_memory(result, decoded[0])
