"""Colours by the profile in the file."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from lib.data.images import read_image, read_thumbnail


def curve(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def xyz(*numbers):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(number * 65536) for number in numbers))


def profile(space, tags):
    """A version 2 profile of a display, from its tags."""
    tags = {b"desc": b"desc\0\0\0\0\0\0\0\2a\0" + bytes(78), b"wtpt": xyz(0.9642, 1, 0.8249), **tags}
    place, table, data = 132 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", place + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s12x4s28x", place + len(data), b"lcms", 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def wide(gamma=1.8):
    """Colours like ProPhoto's."""
    columns = {b"rXYZ": (0.7977, 0.288, 0), b"gXYZ": (0.1352, 0.7119, 0), b"bXYZ": (0.0313, 0.0001, 0.8249)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma))
    return profile(b"RGB ", {**{name: xyz(*column) for name, column in columns.items()}, **curves})


DARK_GREY = profile(b"GRAY", {b"kTRC": curve(3.0)})
COLOURS = np.random.default_rng(5).integers(60, 190, (16, 16, 3)).astype("uint8")


def stored(colours, profile, mode="RGB"):
    """The numbers that mean the sRGB colours by a profile."""
    source, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(source, target, "RGB", mode)
    return ImageCms.applyTransform(Image.fromarray(colours), transform)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.webp", "b.tif", "c.tif", "alpha.png", "a.jpg"])
def test_a_profile_is_applied_whatever_holds_it(tmp_path, name):
    path, own = tmp_path / name, stored(COLOURS, wide())
    assert np.abs(np.asarray(own).astype(int) - COLOURS).mean() > 10
    options = {"icc_profile": wide()}
    if name in ("b.tif", "c.tif"):  # of 16 bits, and of floats, which Pillow doesn't write
        import tifffile

        values = np.asarray(own) * np.uint16(257) if name == "b.tif" else np.asarray(own) / np.float32(255)
        tifffile.imwrite(path, values, photometric="rgb", extratags=[(34675, "B", len(wide()), wide())])
    else:
        options.update({"lossless": True} if name == "a.webp" else {"quality": 100, "subsampling": 0})
        (own.convert("RGBA") if name == "alpha.png" else own).save(path, **options)
    np.testing.assert_allclose(read_image(path, 16), COLOURS, atol=12 if name == "a.jpg" else 3)
    np.testing.assert_allclose(read_thumbnail(path, 16).astype(int).mean((0, 1)), COLOURS.mean((0, 1)), atol=2)
    plain = np.asarray(Image.open(path).convert("RGB")) if name not in ("b.tif", "c.tif") else np.asarray(own)
    # TensorFlow decodes a JPEG a little differently.
    np.testing.assert_allclose(read_image(path, 16, exact=True), plain, atol=40 if name == "a.jpg" else 1)


def test_greys_have_profiles_too(tmp_path):
    grey = np.repeat(COLOURS[..., :1], 3, axis=2)
    own = stored(grey, DARK_GREY, "L")
    assert np.abs(np.asarray(own).astype(int) - grey[..., 0]).mean() > 10
    for name in ("a.png", "a.jpg", "a.tif"):
        own.save(tmp_path / name, icc_profile=DARK_GREY, **({"quality": 100} if name == "a.jpg" else {}))
        np.testing.assert_allclose(read_image(tmp_path / name, 16), grey, atol=4)
    Image.fromarray(np.asarray(own) * np.uint16(257)).save(tmp_path / "b.png", icc_profile=DARK_GREY)
    np.testing.assert_allclose(read_image(tmp_path / "b.png", 16), grey, atol=3)


def press():
    """A profile of four inks: three take a third of the light each, and black takes most."""
    corners = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(16, 4)
    lightness = 25 + 230 * (1 - corners[:, 3]) * (1 - 0.3 * corners[:, :3].sum(axis=1))
    table = np.stack([lightness, 128 + 60 * corners[:, 1], 128 + 60 * corners[:, 2]], axis=1).round().astype("uint8")
    ramp, identity = bytes(range(256)), struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    data = b"mft1\0\0\0\0\4\3\2\0" + identity + ramp * 4 + table.tobytes() + ramp * 3
    found = bytearray(profile(b"CMYK", {b"A2B0": data}))
    found[12:16], found[20:24] = b"prtr", b"Lab "
    return bytes(found)


def test_inks_are_seen_by_their_profile(tmp_path):
    import tifffile

    inks = np.zeros((16, 16, 4), "uint8")
    inks[:8, :8, 1], inks[8:, :8, 2], inks[8:, 8:, 3] = 255, 255, 255  # magenta, paper, yellow, black
    image = Image.fromarray(inks, "CMYK")
    image.save(tmp_path / "a.tif", icc_profile=press())
    image.save(tmp_path / "a.jpg", icc_profile=press(), quality=100, subsampling=0)
    extra = [(34675, "B", len(press()), press())]
    tifffile.imwrite(tmp_path / "b.tif", inks * np.uint16(257), photometric="separated", extratags=extra)
    for name in ("a.tif", "b.tif", "a.jpg"):
        pixels = read_image(tmp_path / name, 16)
        magenta, paper, yellow, black = pixels[3, 3], pixels[3, 12], pixels[12, 3], pixels[12, 12]
        assert paper.min() > 250 and black.max() < 70, name
        # As they look by the profile, which is much duller than the inks would be by themselves.
        np.testing.assert_allclose(magenta, [249, 130, 172], atol=25, err_msg=name)
        np.testing.assert_allclose(yellow, [187, 168, 58], atol=25, err_msg=name)
        exact = read_image(tmp_path / name, 16, exact=True)
        np.testing.assert_allclose(exact[3, 3], [255, 0, 255], atol=3, err_msg=name)


def test_a_profile_that_does_not_fit_or_is_like_srgb_changes_nothing(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, data in enumerate((srgb, DARK_GREY, wide()[:200], b"no profile", b"\0" * 5_000_000)):
        path = tmp_path / f"{number}.tif"
        Image.fromarray(COLOURS).save(path, icc_profile=data)
        np.testing.assert_array_equal(read_image(path, 16), COLOURS)


def test_the_wide_case(shared):
    pictures = shared / "cases" / "pictures"
    expected = read_image(pictures / "reference.png", 96)
    assert np.abs(read_image(pictures / "ignored-icc-wide.tif", 96) - expected).mean() < 1
    assert np.abs(read_image(pictures / "ignored-icc-wide.tif", 96, exact=True) - expected).mean() > 9
