"""Raw files of cameras, read by the picture that the camera puts into them."""

import numpy as np
import pytest
import tifffile

from lib.data.images import ImageError, read_image

ROWS, COLUMNS = np.mgrid[:64, :96]
PREVIEW = np.stack([40 + 2 * COLUMNS, 200 - 2 * ROWS, 60 + COLUMNS + ROWS], axis=2).clip(0, 255).astype("uint8")
SENSOR = np.random.default_rng(0).integers(0, 4000, (128, 192), dtype="uint16")


def write_dng(path, preview=PREVIEW, orientation=1, compression="jpeg"):
    """Write a raw file as Adobe's converter does: a preview, and below it the numbers of the sensor."""
    camera = [(271, "s", 0, "Maker", True), (272, "s", 0, "Camera", True), (50708, "s", 0, "Maker Camera", True)]
    camera += [(274, "H", 1, orientation, True), (50778, "H", 1, 21, True), (50728, "2I", 3, (1,) * 6, True)]
    camera += [(50706, "B", 4, b"\1\4\0\0", True), (50707, "B", 4, b"\1\1\0\0", True)]
    camera.append((50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True))
    sensor = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, b"\0\1\1\2", True), (50717, "H", 1, 4095, True)]
    with tifffile.TiffWriter(path) as file:
        if preview is None:
            file.write(SENSOR, photometric="cfa", extratags=camera + sensor, metadata=None)
            return path
        about = {"photometric": "rgb", "compression": compression, "subfiletype": 1, "subifds": 1, "metadata": None}
        file.write(preview, extratags=camera, **about)
        file.write(SENSOR, photometric="cfa", extratags=sensor, metadata=None)
    return path


@pytest.mark.parametrize("compression", ["jpeg", None])
def test_the_preview_is_read_and_turned(tmp_path, compression):
    for orientation, turned in ((1, PREVIEW), (3, PREVIEW[::-1, ::-1]), (6, np.rot90(PREVIEW, 3))):
        path = write_dng(tmp_path / "a.dng", orientation=orientation, compression=compression)
        away = np.abs(read_image(path, 32) - turned[:: len(turned) // 32, :: turned.shape[1] // 32][:32, :32])
        assert away.mean() < 6, orientation
    assert np.abs(read_image(write_dng(path), 32, exact=True) - PREVIEW[::2, ::3]).mean() < 6


def test_a_raw_file_without_a_preview_is_named(tmp_path):
    with pytest.raises(ImageError, match="^a camera's raw file without a ready picture$"):
        read_image(write_dng(tmp_path / "a.dng", preview=None), 32)
    for start in (b"FUJIFILMCCD-RAW 0201", b"IIRO\x08\0\0\0", b"\0\0\0\x18ftypcrx \0\0\0\0", b"FOVb"):
        (tmp_path / "b.cr3").write_bytes(start + bytes(400))
        with pytest.raises(ImageError, match="a camera's raw file"):
            read_image(tmp_path / "b.cr3", 32)


def test_too_large_a_preview_is_refused(tmp_path):
    path = write_dng(tmp_path / "a.dng")
    with pytest.raises(ImageError, match="96 x 64 pixels are more than the 6000 allowed"):
        read_image(path, 32, max_pixels=6000)


def test_a_tiff_with_a_small_first_picture_is_no_raw_file(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PREVIEW, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        file.write(SENSOR, photometric="minisblack", metadata=None)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif", 32)[5, 5], PREVIEW[11, 16], atol=3)
