"""Small pictures for pages."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from lib.data.images import ImageError, read_thumbnail
from lib.data.thumbnails import LARGER_BYTES, PAGE_BYTES, allowance, encode, larger_count, make_thumbnails


def opened(data):
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "WEBP"
        return np.asarray(picture.convert("RGB")).astype("float32")


@pytest.fixture
def picture(tmp_path):
    """A picture of 300 x 200 pixels, red at its left, blue at its right."""
    pixels = np.zeros((200, 300, 3), "uint8")
    pixels[:, :150, 0] = pixels[:, 150:, 2] = 255
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


def test_the_aspect_is_kept_and_a_small_picture_its_size(picture):
    pixels = read_thumbnail(picture, 120)
    assert pixels.shape == (80, 120, 3) and pixels.dtype == "uint8"
    assert (pixels[:, 10] == (255, 0, 0)).all() and (pixels[:, -10] == (0, 0, 255)).all()
    assert read_thumbnail(picture, 1000).shape == (200, 300, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_exif_says(picture, orientation):
    with Image.open(picture) as image:
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = picture.with_suffix(".jpg")
        image.save(path, exif=exif, quality=95)
    pixels = read_thumbnail(path, 60)
    if orientation >= 5:
        assert pixels.shape == (60, 40, 3)
        pixels = pixels.transpose(1, 0, 2)
    assert pixels.shape == (40, 60, 3)
    red_first = orientation in (1, 4, 5, 6)
    assert (pixels[20, 5, 0] > 200) == red_first and (pixels[20, 5, 2] < 50) == red_first


def test_it_is_antialiased(tmp_path):
    stripes = np.zeros((600, 600), "uint8")
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    pixels = read_thumbnail(tmp_path / "stripes.png", 100)[5:-5, 5:-5]
    assert abs(pixels.mean() - 127.5) < 10 and pixels.std() < 40  # every sixth pixel alone would have 127


def test_a_small_picture_is_its_own_pixels(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype="uint8")
    Image.fromarray(noise).save(tmp_path / "noise.png")
    np.testing.assert_array_equal(read_thumbnail(tmp_path / "noise.png", 224), noise)


def test_a_large_one_of_a_jpeg_is_as_sharp_as_of_its_pixels(tmp_path):
    """Not a few pixels that were enlarged again."""
    rng = np.random.default_rng(0)
    detailed = Image.fromarray(rng.integers(0, 255, (1250, 1500), dtype="uint8")).resize((2400, 2000))
    detailed.save(tmp_path / "a.png")
    detailed.save(tmp_path / "a.jpg", quality=97, subsampling=0)
    found, expected = (read_thumbnail(tmp_path / name, 1800).astype("float32") for name in ("a.jpg", "a.png"))
    assert found.shape == expected.shape == (1500, 1800, 3)
    assert abs(found - expected).mean() < 0.05 * expected.std()


def test_memory_is_that_of_the_pixels_in_bytes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (2000, 3000, 4), dtype="uint8")
    Image.fromarray(noise).save(tmp_path / "noise.png", compress_level=1)
    tracemalloc.start()
    assert read_thumbnail(tmp_path / "noise.png", 2900).shape == (1933, 2900, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * noise.nbytes


def test_the_thinnest_picture_has_a_pixel(tmp_path):
    Image.new("L", (3000, 2), 7).save(tmp_path / "thin.png")
    assert read_thumbnail(tmp_path / "thin.png", 100).shape == (1, 100, 3)


@pytest.mark.parametrize("allowed", [9000, 3000, 1500, 600, 200])
def test_no_picture_takes_more_than_it_may(allowed):
    noise = np.random.default_rng(0).integers(0, 255, (224, 150, 3), dtype="uint8")
    data = encode(noise, allowed)
    assert len(data) <= allowed
    height, width = opened(data).shape[:2]
    assert height / width == pytest.approx(224 / 150, rel=0.2)
    even = encode(np.full((96, 96, 1), 99, "uint8"), allowed)
    assert np.abs(opened(even) - 99).max() <= 4 and opened(even).shape == (96, 96, 3)


def test_all_pictures_together_fit():
    for count in (0, 1, 300, 5100, 100_000):
        assert allowance(count) * count <= PAGE_BYTES
    assert allowance(1) > 5 * allowance(5100)


def test_what_cannot_be_read_has_its_reason_in_its_place(picture, tmp_path):
    (tmp_path / "bad.jpg").write_text("no picture")
    paths = [str(picture), str(tmp_path / "bad.jpg"), str(tmp_path / "none.jpg"), str(picture)]
    found = list(make_thumbnails(paths, read_thumbnail, larger=[1]))
    assert opened(found[0].small).shape == (149, 224, 3) and found[3] == found[0] == (found[0].small, None)
    assert isinstance(found[1], ImageError) and "not an image" in str(found[1])
    assert isinstance(found[2], ImageError) and "doesn't exist" in str(found[2])


def test_larger_pictures_are_large_enough_and_fit(tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype="uint8")).resize((800, 600))
    noise.save(tmp_path / "scan.png")
    for count in (1, larger_count(5100)):
        (found,) = make_thumbnails([str(tmp_path / "scan.png")], read_thumbnail, larger=range(count))
        with Image.open(io.BytesIO(found.larger)) as picture:
            assert picture.format == "JPEG" and max(picture.size) >= 320
        assert len(found.larger) * count <= LARGER_BYTES
    assert 300 <= larger_count(5100) < 5100 and larger_count(7) == 7
