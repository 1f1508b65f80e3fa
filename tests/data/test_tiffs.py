"""TIFFs of every kind: what a picture is as numbers, and how these lie in the file."""

import itertools
import struct
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from lib.data.images import ImageError, read_image

SIDE = 24
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
COLOURS = np.stack([COLUMNS, ROWS, (COLUMNS + ROWS) % 0.3 / 0.3], axis=2)  # 0-1
GREY = COLOURS @ [0.3, 0.6, 0.1]
ALPHA = np.where(COLUMNS > 0.6, 0.25, 1)[..., None]


def inks(colours):
    black = 1 - colours.max(axis=2, keepdims=True)
    return np.concatenate([(1 - colours - black) / np.maximum(1 - black, 1e-9), black], axis=2)


# Samples of 0-1, the picture they show, and what a TIFF says of them.
KINDS = {
    "grey": (GREY, GREY, {"photometric": "minisblack"}),
    "white-is-zero": (1 - GREY, GREY, {"photometric": "miniswhite"}),
    "grey-alpha": (np.dstack([GREY, ALPHA]), 1 - (1 - GREY) * ALPHA[..., 0], {"extrasamples": ["unassalpha"]}),
    "rgb": (COLOURS, COLOURS, {"photometric": "rgb"}),
    "rgb-alpha": (np.dstack([COLOURS, ALPHA]), 1 - (1 - COLOURS) * ALPHA, {"extrasamples": ["unassalpha"]}),
    "rgb-premultiplied": (
        np.dstack([COLOURS * ALPHA, ALPHA]),
        1 - (1 - COLOURS) * ALPHA,
        {"extrasamples": ["assocalpha"]},
    ),
    "rgb-other": (np.dstack([COLOURS, ALPHA]), COLOURS, {"extrasamples": ["unspecified"]}),
    "cmyk": (inks(COLOURS), COLOURS, {"photometric": "separated"}),
    "cmyk-alpha": (
        np.dstack([inks(COLOURS), ALPHA]),
        1 - (1 - COLOURS) * ALPHA,
        {"photometric": "separated", "extrasamples": ["unassalpha"]},
    ),
}
DEPTHS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float16", "float32", "float64")
LAYOUTS = (
    {},
    {"byteorder": ">", "compression": "lzw", "predictor": True, "rowsperstrip": 5},
    {"bigtiff": True, "byteorder": ">", "tile": (16, 16)},
    {"compression": "deflate", "tile": (32, 16)},
)


def quantized(samples, dtype):
    """Samples of 0-1 as numbers of a type, of which its greatest is 1."""
    if np.dtype(dtype).kind == "f":
        return samples.astype(dtype)
    most = float(np.iinfo(dtype).max)
    return np.minimum(np.rint(samples * most), np.nextafter(most, 0) if most > 2**53 else most).astype(dtype)


def shown(picture):
    picture = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
    return picture * 255


def write(path, samples, about, planar="contig", **layout):
    about = {"photometric": "rgb" if samples.shape[-1] == 4 else "minisblack", **about}
    if planar == "separate":
        samples = np.ascontiguousarray(np.moveaxis(samples, -1, 0))
    if samples.ndim == 3:
        about["planarconfig"] = planar
    tifffile.imwrite(path, samples, metadata=None, **about, **layout)
    return path


@pytest.mark.parametrize("depth", DEPTHS)
def test_samples_of_all_kinds_depths_and_layouts_are_the_same_picture(tmp_path, depth):
    tried = 0
    for (name, (samples, picture, about)), layout in itertools.product(KINDS.items(), LAYOUTS):
        if layout.get("predictor") and depth == "uint64":
            layout = {**layout, "predictor": False}  # which the format doesn't have
        expected = shown(picture)
        if samples.ndim == 2 or name == "grey-alpha":
            # Without an agreed range, which numbers of more bits or with a sign don't have, greys are stretched.
            most = GREY.max() if depth not in ("uint8", "uint16") else 1
            least = GREY.min() if depth not in ("uint8", "uint16") else 0
            stretched = (GREY - least) / (most - least)
            expected = shown(1 - (1 - stretched) * ALPHA[..., 0] if name == "grey-alpha" else stretched)
        for planar in ("contig", "separate") if samples.ndim == 3 else ("contig",):
            path = write(tmp_path / "a.tif", quantized(samples, depth), about, planar, **layout)
            pixels = read_image(path, SIDE)
            case = f"{name}, {layout}, {planar}"
            np.testing.assert_allclose(pixels, expected, atol=6 if depth == "int8" else 1.6, err_msg=case)
            tried += 1
    assert tried == 4 * (2 + 2 * 7)


@pytest.mark.parametrize("compression", ["packbits", "lzma", "zstd", "jpeg", "jpeg2000", "webp"])
def test_every_compression_is_read(tmp_path, compression):
    tried = 0
    for depth, planar, (name, (samples, picture, about)) in itertools.product(
        ("uint8", "uint16"), ("contig", "separate"), KINDS.items()
    ):
        if compression in ("jpeg", "webp") and (depth, name) != ("uint8", "rgb"):
            continue
        if samples.ndim == 2 or (compression, planar) == ("webp", "separate"):
            continue
        if compression == "jpeg2000" and samples.shape[-1] > 4:
            continue
        path = write(tmp_path / "a.tif", quantized(samples, depth), about, planar, compression=compression)
        away = np.abs(read_image(path, SIDE) - shown(picture)).mean()
        assert away < (20 if compression in ("jpeg", "webp") else 0.6), (name, depth, planar)
        tried += 1
    assert tried == {"jpeg": 2, "webp": 1, "jpeg2000": 24}.get(compression, 28)


def packed(path, order, bits, values, photometric=1, bands=1, tags=None):
    """Write a TIFF of one strip, whose samples lie bit by bit, each row from a new byte on."""
    rows = values.reshape(len(values), -1)
    lines = ["".join(format(value, f"0{bits}b") for value in row) for row in rows.tolist()]
    data = b"".join(
        int(line, 2).to_bytes(-(-len(line) // 8), "big") for line in (x + "0" * (-len(x) % 8) for x in lines)
    )
    entries = {256: values.shape[1], 257: len(values), 258: bits, 259: 1, 262: photometric, 273: 8, 277: bands}
    entries = {**entries, 278: len(values), 279: len(data), **(tags or {})}
    behind, directory = 8 + len(data) + 2 + 12 * len(entries) + 4, b""
    extra = b""
    for tag, value in sorted(entries.items()):
        value = value if isinstance(value, tuple) else (value,)
        shorts = struct.pack(f"{order}{len(value)}H", *value)
        if len(shorts) > 4:
            shorts, extra = struct.pack(order + "I", behind + len(extra)), extra + shorts
        directory += struct.pack(order + "HHI", tag, 3, len(value)) + shorts.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data))
    path.write_bytes(head + data + struct.pack(order + "H", len(entries)) + directory + bytes(4) + extra)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_number_of_bits_up_to_16_is_read(tmp_path, order):
    for bits in range(1, 17):
        most = 2**bits - 1
        values = np.rint(GREY * most).astype(int)
        if bits in (8, 16):
            continue  # which have no need to be packed, and then follow the byte order
        for photometric, expected in ((1, values), (0, most - values)):
            path = packed(tmp_path / "a.tif", order, bits, values, photometric)
            np.testing.assert_allclose(read_image(path, SIDE), shown(expected / most), atol=0.51, err_msg=f"{bits}")
        values = np.rint(COLOURS * most).astype(int)
        path = packed(tmp_path / "a.tif", order, bits, values, 2, 3)
        np.testing.assert_allclose(read_image(path, SIDE), shown(values / most), atol=0.51, err_msg=f"{bits} RGB")


@pytest.mark.parametrize("scale", [257, 1])  # old colour maps have 8 bits
def test_colour_maps_of_16_and_8_bits(tmp_path, scale):
    table = np.random.default_rng(0).integers(0, 256, (3, 256)).astype("uint16")
    places = np.rint(GREY * 255).astype("uint8")
    path = write(tmp_path / "a.tif", places, {"photometric": "palette", "colormap": table * scale}, compression="lzw")
    np.testing.assert_allclose(read_image(path, SIDE), table.T[places], atol=1)
    for bits in (1, 2, 3, 4):
        places = np.rint(GREY * (2**bits - 1)).astype(int)
        colours = tuple((table[:, : 2**bits] * scale).ravel().tolist())
        packed(path, "<", bits, places, photometric=3, tags={320: colours})
        np.testing.assert_allclose(read_image(path, SIDE), table.T[places], atol=1, err_msg=f"{bits}")


def test_light_and_colours_apart(tmp_path):
    image = Image.fromarray(np.rint(COLOURS * 255).astype("uint8"))
    apart = np.asarray(image.convert("YCbCr"))
    for planar, compression in itertools.product(("contig", "separate"), (None, "lzw")):
        about = {"photometric": "ycbcr", "subsampling": (1, 1)}
        path = write(tmp_path / "a.tif", apart, about, planar, compression=compression)
        np.testing.assert_allclose(read_image(path, SIDE), shown(COLOURS), atol=4)
    # Without compression, colours of 2 x 2 pixels behind the light of these.
    units = apart[..., 0].reshape(SIDE // 2, 2, SIDE // 2, 2).transpose(0, 2, 1, 3).reshape(SIDE // 2, SIDE // 2, 4)
    shared = apart[..., 1:].reshape(SIDE // 2, 2, SIDE // 2, 2, 2).mean(axis=(1, 3)).astype("uint8")
    data = np.dstack([units, shared])
    tags = {256: SIDE, 257: SIDE, 278: SIDE, 530: (2, 2)}
    path = packed(tmp_path / "b.tif", "<", 8, data.reshape(SIDE // 2, -1), 6, 3, tags)
    assert np.abs(read_image(path, SIDE) - shown(COLOURS)).mean() < 20
    away = read_image(path, SIDE) @ [0.299, 0.587, 0.114] - shown(COLOURS) @ [0.299, 0.587, 0.114]
    assert np.abs(away).mean() < 3


def test_cie_lab(tmp_path):
    for photometric, offset in (("cielab", 0), ("icclab", 128)):
        # A light grey, a red and a blue.
        lab = np.array([[[200, 0, 0], [138, 81, 70], [75, 68, -112]]]).repeat(3, axis=0)
        stored = (lab + np.array([0, offset, offset])).astype("int64") % 256
        for dtype in ("uint8", "uint16"):
            write(
                tmp_path / "a.tif",
                (stored * (257 if dtype == "uint16" else 1)).astype(dtype),
                {"photometric": photometric},
            )
            pixels = read_image(tmp_path / "a.tif", 3)[1]
            np.testing.assert_allclose(pixels, [[193, 193, 193], [255, 0, 0], [0, 0, 255]], atol=25)


def test_a_kind_that_is_not_read_is_named(tmp_path):
    values = np.zeros((SIDE, SIDE, 2), "uint8")
    for name, about, reason in (
        ("inks", {"photometric": "separated", "extratags": [(332, "H", 1, 2, True)]}, "8 bits, SEPARATED"),
        ("complex", {}, "complex numbers"),
        ("filter", {"photometric": "cfa"}, "CFA"),
    ):
        samples = values.astype("complex64") if name == "complex" else values.repeat(2, axis=2)
        write(tmp_path / "a.tif", samples[..., 0] if name != "inks" else samples, about)
        with pytest.raises(ImageError, match=f"a TIFF of a kind that can't be read .*{reason}"):
            read_image(tmp_path / "a.tif", 8)


def test_orientation_is_applied(tmp_path):
    values = quantized(COLOURS, "uint16")
    for orientation, turned in ((3, values[::-1, ::-1]), (6, np.rot90(values, 3)), (8, np.rot90(values))):
        write(tmp_path / "a.tif", values, {"photometric": "rgb", "extratags": [(274, "H", 1, orientation, True)]})
        np.testing.assert_allclose(read_image(tmp_path / "a.tif", SIDE), turned / 257, atol=0.1)


def test_more_pixels_bytes_or_larger_tiles_than_allowed_are_refused_before_decoding(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((SIDE, SIDE, 3), "float64"), {"photometric": "rgb"})
    assert read_image(path, 8, max_pixels=3 * SIDE**2).shape == (8, 8, 3)
    with pytest.raises(ImageError, match="24 x 24 pixels of 24 bytes are more than the 576 allowed"):
        read_image(path, 8, max_pixels=SIDE**2)
    write(path, np.zeros((SIDE, SIDE), "int16"), {}, tile=(16, 16), compression="lzw")
    assert read_image(path, 8, max_pixels=SIDE**2).shape == (8, 8, 3)
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag in (322, 323):  # width and height of a tile
            file.pages[0].tags[tag].overwrite(60_000)
    with pytest.raises(ImageError, match="allowed"):
        read_image(path, 8)
    write(path, quantized(COLOURS, "uint8"), {"photometric": "rgb"}, "separate", compression="jpeg")
    content = path.read_bytes()
    frame = content.index(b"\xff\xc0\0\x0b")
    path.write_bytes(content[: frame + 5] + struct.pack(">HH", 60_000, 60_000) + content[frame + 9 :])
    with pytest.raises(ImageError, match="a part of the picture is larger than the whole"):
        read_image(path, 8)


@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"compression": "deflate", "tile": (16, 16)}])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_tiff_cut_short_says_how_much_is_missing(tmp_path, options, dtype):
    rng = np.random.default_rng(0)
    samples = quantized(rng.random((64, 64, 3)), dtype)
    path = write(tmp_path / "a.tif", samples, {"photometric": "rgb"}, **{"rowsperstrip": 4, **options})
    content = path.read_bytes()
    assert np.ptp(read_image(path, 64)) > 200
    for kept, missing in ((0.5, "half"), (0.75, "quarter"), (0.02, "cut short")):
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(ImageError, match=f"cut short.*{missing}" if kept > 0.1 else missing):
            read_image(path, 64)


def test_a_count_of_too_many_bytes_does_not_matter(tmp_path):
    for planar in ("contig", "separate"):
        path = write(tmp_path / "a.tif", quantized(COLOURS, "float32"), {"photometric": "rgb"}, planar)
        with tifffile.TiffFile(path, mode="r+") as file:
            tag = file.pages[0].tags[279]
            tag.overwrite([count + 1000 for count in tag.value])
        np.testing.assert_allclose(read_image(path, SIDE), shown(COLOURS), atol=0.1)


def test_nothing_reaches_the_terminal(tmp_path):
    rng = np.random.default_rng(0)
    content = write(
        tmp_path / "a.tif", rng.integers(0, 255, (64, 64, 3), dtype="uint8"), {"photometric": "rgb"}, compression="lzw"
    ).read_bytes()
    for number in range(60):
        spoilt = bytearray(content)
        for place in rng.integers(8, len(content), 3):
            spoilt[place] = rng.integers(256)
        (tmp_path / f"{number}.tif").write_bytes(spoilt)
    program = """if True:
        import contextlib, glob, sys
        from lib.data.images import ImageError, read_image
        for path in glob.glob(sys.argv[1] + "/*.tif"):
            with contextlib.suppress(ImageError):
                read_image(path, 8)
    """
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
