"""Spoil valid files in every way and see that the toolkit reads them right or says in a sentence what is wrong.

    python tests/fuzz.py [SECONDS] [--kind NAME] [--seed NUMBER] [--keep FOLDER]

spends the seconds (60) on each kind of input, in a process of its own, which may take 30 s and 6 GiB for one input.
Each input follows from the seed and its number. What breaks something is kept in the folder and named; the exit status
is then 1. The tests do the first few inputs of each kind.
"""

import argparse
import contextlib
import faulthandler
import io
import json
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

_SECONDS = 30  # that one input may take
_MEMORY = 6 << 30  # bytes that it may take, beside what the libraries take
_FIXTURES = ROOT / "tests" / "fixtures"

# Bytes that formats give a meaning to, and numbers at the ends of what fits.
_TELLING = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff", b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80" * 8]
_TELLING += [b"PK\x03\x04", b"\x89HDF", b"\xff\xd8\xff", b"\xff\xda", b"II*\x00", b"..", b"/", b"\t", b"\n", b'"', b"'"]
_TEXTS = ["", "-1", "0", "1e999", "NaN", "null", "true", "[]", "{}", '""', "9" * 5000, "[" * 3000]
_TEXTS += ["\u202e", "\ud7ff", "\x1b[2J"]
_TEXTS += ["\\ud800", "\\x00", "../../outside", "/dev/zero", "٣", "=1+1", "<script>", "a" * 70_000]
_VALUES = [None, True, -1, 0, 1 << 40, 10**30, 1e308, "", "a" * 300, [], {}, [[]], "os.system", ["a", 0, 0]]
_VALUES += [{"class_name": "Lambda"}]


class Kind(NamedTuple):
    """A kind of input.

    Attributes:
        name: the file's.
        seeds: called with an empty folder; returns the bytes of valid files.
        use: called with the path of a file; reads it as the toolkit does.
    """

    name: str
    seeds: Callable
    use: Callable


def _pictures(folder):
    rng = np.random.default_rng(1)
    pixels = (rng.integers(0, 60, (40, 56, 3)) + np.arange(56)[None, :, None] * 3).astype("uint8")
    picture, found = Image.fromarray(pixels), []
    for kind, options in (
        ("JPEG", {}),
        (
            "JPEG",
            {"progressive": True, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
        ),
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        *(("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {}),
    ):
        with contextlib.suppress(OSError), io.BytesIO() as file:  # a Pillow without that compression
            picture.save(file, kind, **options)
            found.append(file.getvalue())
    for mode, kind in (("P", "PNG"), ("LA", "PNG"), ("1", "TIFF"), ("CMYK", "JPEG"), ("F", "TIFF"), ("I;16", "PNG")):
        with io.BytesIO() as file:
            (Image.fromarray(pixels[..., 0].astype("uint16") * 200) if mode == "I;16" else picture.convert(mode)).save(
                file, kind
            )
            found.append(file.getvalue())
    return found + _unusual_pictures(folder, pixels)


def _unusual_pictures(folder, pixels):
    import tifffile

    sys.path.insert(0, str(ROOT / "tests" / "data"))
    from test_raw_files import write_dng

    found, deep = (
        [path.read_bytes() for path in sorted((_FIXTURES / "pictures").iterdir())],
        pixels.astype("uint16") * 257,
    )
    for samples, options in (
        (deep, {"compression": "lzw", "predictor": True, "rowsperstrip": 7}),
        (deep.transpose(2, 0, 1).copy(), {"planarconfig": "separate", "byteorder": ">", "compression": "packbits"}),
        (pixels.astype("float32"), {"bigtiff": True, "byteorder": ">", "tile": (16, 32)}),
        (np.dstack([pixels, pixels[..., :2]]), {"photometric": "separated", "compression": "deflate"}),
        (deep, {"compression": "jpeg2000"}),
        (pixels.transpose(2, 0, 1).copy(), {"planarconfig": "separate", "compression": "jpeg"}),
    ):
        tifffile.imwrite(folder / "a.tif", samples, metadata=None, **{"photometric": "rgb", **options})
        found.append((folder / "a.tif").read_bytes())
    return [*found, write_dng(folder / "a.dng").read_bytes()]


def _use_picture(path):
    from lib.data.images import read_image, read_thumbnail

    pixels = read_image(path, 24, max_pixels=10_000_000)
    assert pixels.shape == (24, 24, 3) and np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 255.01
    assert max(read_thumbnail(path, 32, 10_000_000).shape[:2]) <= 32


def _use_exact_picture(path):
    from lib.data.images import read_image

    assert read_image(path, 24, exact=True, max_pixels=10_000_000).shape == (24, 24, 3)


def _records(folder):
    from toys import write_records

    return [Path(write_records(folder / "a.tfr", count, count)).read_bytes() for count in (1, 3)]


def _use_records(path):
    from lib.data.records import load_images, open_records

    for skip_bad in (False, True):
        records = open_records([path], "train", 3, skip_bad=skip_bad)
        images = load_images(records, processors=1, skip_bad=skip_bad)
        assert images.take(np.arange(len(images))).shape == (len(images), *images.shape)


def _keras(folder):
    from toys import write_model

    names = ("nested-2.13", "nested-2.12-hdf5", "nested-3.15")
    return [Path(write_model(folder / "a.keras")).read_bytes()] * 3 + [
        (_FIXTURES / "keras" / f"{name}.keras").read_bytes() for name in names
    ]


def _use_keras(path):
    from lib.errors import UsageError
    from lib.models.keras_files import load_model, read_outline

    with contextlib.suppress(UsageError):
        read_outline(path)
    assert load_model(path).output.shape[-1] > 0


def _weights(folder):
    with zipfile.ZipFile(_FIXTURES / "keras" / "nested-3.15.keras") as archive:
        return [archive.read("model.weights.h5"), (_FIXTURES / "keras" / "nested-2.12-hdf5.keras").read_bytes()]


def _use_weights(path):
    """Read all that is in HDF5 as a model's reader does, though no model is built, which takes long."""
    import h5py

    from lib.models.keras_archives import array, group, groups_by_class, holds_arrays, open_hdf5
    from lib.storage.untrusted import parse_json, refusing

    def look(parent, depth=0):
        for name in list(parent)[:20]:
            if isinstance(parent.get(name), h5py.Dataset):
                array(parent, name, 100_000)
            elif depth < 8:
                look(group(parent, name), depth + 1)
        if "weight_names" in parent.attrs:
            list(parent.attrs["weight_names"])

    with refusing(path, "weights"), open_hdf5(Path(path).read_bytes()) as file:
        holds_arrays(file)
        if "layers" in file:
            groups_by_class(group(file, "layers"))
        if "model_config" in file.attrs:
            parse_json(file.attrs["model_config"])
        look(file)


def _checkpoints(folder):
    return [path.read_bytes() for path in sorted((_FIXTURES / "vit").iterdir()) if path.suffix != ".npz"]


def _use_checkpoint(path):
    from lib.models.torch_files import read_arrays

    if Path(path).read_bytes()[8:9] == b"{":
        path = shutil.copy(path, path + ".safetensors")
    for tensor in read_arrays(path).values():
        assert tensor.read().shape == tensor.shape


def _log(folder):
    return [(ROOT / "manual" / "optimization-log.tsv").read_bytes()]


def _use_log(path):
    from lib.training.hyperparameters import best_row, read_log

    shutil.copy(path, os.path.join(os.path.dirname(path), "optimization-log.tsv"))
    assert best_row(read_log(os.path.dirname(path))).settings.batch >= 1


def _use_number_map(path):
    from lib.data.records import read_number_map

    assert all(type(number) is int for pair in read_number_map(path).items() for number in pair)


def _use_labels(path):
    from lib.data.categories import read_categories, read_labels

    assert all(read_labels(path)) and read_categories(path)


def _predictions(ending):
    def seeds(folder):
        from lib.storage.tables import open_rows, write_table

        table = _table(folder, ending)
        with open_rows(table) as rows:
            rows.extend(_rows(table, "a", "b", 'c",', "é", "\\xff"))
            write_table(table, rows, {"keras": "1"})
        return [Path(table.path).read_bytes()]

    return seeds


_COLUMNS = ["MODEL", "FILE", "PREDICTION", "PROBABILITY"]
_SETTINGS = {"model": "N", "data": "d/", "top": 1}


def _table(folder, ending):
    from lib.storage.tables import Table

    return Table(os.path.join(folder, f"a.{ending}"), _COLUMNS, _SETTINGS)


def _rows(table, *names):
    from lib.storage.names import path_order

    return [(path_order(f"d/{name}.jpg"), None, table.line(["N", f"d/{name}.jpg", "Live", 0.75])) for name in names]


def _use_predictions(path):
    from lib.prediction.report import report_table, sort_table
    from lib.prediction.settings import Settings

    page, folder = (os.path.join(os.path.dirname(path), name) for name in ("page.html", "sorted"))
    settings = Settings(report_from=path, report=page, sort=folder, processors=1)
    report_table(settings)
    assert "<script>alert" not in Path(page).read_text(encoding="utf-8")
    sort_table(settings)


_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252")


def _use_list(path):
    from lib.data.listing import of_file

    found = of_file(path)
    assert len(found.paths) == found.about["entries"] and all(found.paths)


def _fingerprints(folder):
    from lib.storage.fingerprints import write_fingerprints

    write_fingerprints(str(folder / "a.tsv"), [(b"a.jpg", (1, 2, 3)), (b"b\t.jpg", (4, 5, -1))])
    return [(folder / "a.tsv.files.tsv").read_bytes()]


def _use_fingerprints(path):
    from lib.storage.fingerprints import changed_files

    changed_files(path[: -len(".files.tsv")], ["a.jpg", "b\\t.jpg"])


def _collection(folder):
    lines = ["FILE\tCATEGORY\tGROUP\tSPLIT"]
    for number, rest in enumerate(("x\t1\ttrain", "y\t\t", "y\t2\ttest", "z\t\t")):
        picture = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype("uint8")
        Image.fromarray(picture).save(folder / f"{number}.png")
        lines.append(f"{folder / str(number)}.png\t{rest}")
    return ["\n".join(lines).encode() + b"\n"]


def _use_collection(path):
    from lib.data.conversion import Settings, convert

    convert(Settings(os.path.join(os.path.dirname(path), "out"), table=path, processors=1))


def _partials(folder):
    from lib.storage.tables import open_rows

    table = _table(folder, "tsv")
    with open_rows(table) as rows:
        rows.extend(_rows(table, "a", "b", "c"))
    return [Path(f"{table.path}.partial").read_bytes()]


def _use_partial(path):
    from lib.storage.tables import open_rows, write_table

    table = _table(os.path.dirname(path), "tsv")
    shutil.copy(path, table.path + ".partial")
    with open_rows(table) as rows:
        rows.extend(_rows(table, *(os.fsdecode(path)[2:-4] for path in list(rows.missing([b"d/a.jpg", b"d/z.jpg"])))))
        write_table(table, rows, {})


def _states(folder):
    from lib.storage.states import save_state

    groups = {"weights": [np.ones((2, 3), "float32"), np.zeros(2, "float32")], "optimizer": [np.array(7)]}
    save_state(str(folder / "a.npz"), {"run": "0123-best", "step": 1, "history": {"f1": [0.5]}}, groups)
    return [(folder / "a.npz").read_bytes()]


def _use_state(path):
    from lib.storage.states import load_state

    _, groups = load_state(path)
    assert all(isinstance(array, np.ndarray) for arrays in groups.values() for array in arrays)


def _features(folder):
    from lib.data.embeddings import open_features, write_features

    path = str(folder / "a.npz")
    with open_features(path, {"model": "m"}) as features:
        features.extend((name, None, bytes(20)) for name in (b"a.jpg", b"b.jpg"))
        write_features(path, {"model": "m"}, features, [b"a.jpg", b"b.jpg"])
    return [(folder / "a.npz").read_bytes()]


def _use_features(path):
    from lib.data.embeddings import load_features, nearest, open_features, write_features

    stored = load_features(path)
    nearest(stored, np.ones(stored.embeddings.shape[1]), 3)
    with open_features(path, {"model": "m"}) as features:
        features.add(b"c.jpg", bytes(4 * stored.embeddings.shape[1]))
        write_features(path, {"model": "m"}, features, [b"c.jpg"])
    load_features(path)


def _journals(folder):
    from lib.storage.journal import Journal

    with Journal(str(folder / "a.sqlite"), "images", {"size": 96}) as journal:
        for name in (b"a", b"b"):
            journal.add(name, b"\xff\xd8" + bytes(90), [1, 2, "ab", 3])
    return [(folder / "a.sqlite").read_bytes()]


def _use_journal(path):
    from lib.storage.journal import Journal

    with Journal(path, "images", {"size": 96}) as journal:
        for key, about in journal.facts():
            assert isinstance(journal.content(key), bytes) or about


def _archives(folder):
    import archives

    occurrences = [["1", "CC0_1_0", "Kew", "K1"], ["2", "", "", "K2"]]
    media = [["1", "StillImage", "image/jpeg", "https://a.example/1.jpg", "t", "CC BY 4.0", ""]]
    media += [["2", "", "", "http://b.example/2.jpg | http://b.example/3.jpg", "", "", "Jena"]]
    portal = [["1", "https://s.example/1.jpg", "", "", "", "StillImage", "©", "", "CC BY (Attribution)", ""]]
    made = (
        archives.gbif(folder / "g.zip", occurrences, media),
        archives.symbiota(folder / "s.zip", [["1", "Z", ""]], portal),
    )
    return [Path(path).read_bytes() for path in made]


def _links(folder):
    rows = ["gbifID,identifier,license", '1,https://a.example/1.jpg,"CC BY, 4.0"', "2,http://b.example/2.jpg,CC0"]
    return ["\n".join(rows).encode(encoding) for encoding in _ENCODINGS]


def _use_links(path):
    from lib.download.plan import about_plan, open_plan
    from lib.download.settings import Settings

    folder = os.path.dirname(path)
    settings = Settings(path, folder, sample=5)
    with open_plan(settings, about_plan(settings), folder) as plan:
        images = [image for host in plan.count_images() for image in plan.images_of(host)]
        assert {image.name for image in images} == {name for name, _ in plan.media()} and images
        plan.remove()


def _use_index(path):
    from lib.download.index import known_images

    for name, about in known_images(path):
        assert re.fullmatch("[0-9a-f]{32}", name) and set(about) == {"file", "sha256", "bytes"}


def _index(folder):
    row = ("d/ab/cd/" + "abcd" * 8 + ".jpg", "https://a.example/1.jpg", "1", "K1", "CC BY", "Kew", "00" * 32, "100")
    header = "FILE\tURL\tGBIFID\tCATALOGNUMBER\tLICENCE\tRIGHTSHOLDER\tSHA256\tBYTES"
    return ["\n".join([header, "\t".join(row), ""]).encode()]


def _use_join(path):
    from lib.storage.joins import Join

    join = Join(path, ("MODEL", "FILE"), "d")
    assert len(join.values(b"d/ab/cd/" + b"abcd" * 8 + b".jpg")) == len(join.columns)
    join.in_words(1, "x")


def _nothing(*_):
    pass


KINDS = {
    "records": Kind("a.tfr", _records, _use_records),
    "keras": Kind("a.keras", _keras, _use_keras),
    "weights": Kind("a.h5", _weights, _use_weights),
    "picture": Kind("a.jpg", _pictures, _use_picture),
    "exact-picture": Kind("a.jpg", _pictures, _use_exact_picture),
    "checkpoint": Kind("a.pth", _checkpoints, _use_checkpoint),
    "log": Kind("a.tsv", _log, _use_log),
    "number-map": Kind("map.tsv", lambda folder: [b"OLD\tNEW\n0\t1\n1\t0\n12\t2\n"], _use_number_map),
    "labels": Kind("l.tsv", lambda folder: [b"CATEGORY\tINDEX\tLABEL\nx y\t0\tx\nz\t1\tz\n"], _use_labels),
    "predictions-tsv": Kind("a.tsv", _predictions("tsv"), _use_predictions),
    "predictions-csv": Kind("a.csv", _predictions("csv"), _use_predictions),
    "predictions-jsonl": Kind("a.jsonl", _predictions("jsonl"), _use_predictions),
    "predictions-xlsx": Kind("a.xlsx", _predictions("xlsx"), _use_predictions),
    "fingerprints": Kind("a.tsv.files.tsv", _fingerprints, _use_fingerprints),
    "list": Kind("a.list", lambda folder: ['a b.jpg\r\n"é"\n'.encode(each) for each in _ENCODINGS], _use_list),
    "collection": Kind("a.tsv", _collection, _use_collection),
    "archive": Kind("a.zip", _archives, _use_links),
    "links": Kind("a.csv", _links, _use_links),
    "index": Kind("index.tsv", _index, _use_index),
    "join": Kind("a.tsv", _index, _use_join),
    "partial": Kind("b", _partials, _use_partial),
    "state": Kind("a.npz", _states, _use_state),
    "features": Kind("a.npz", _features, _use_features),
    "journal": Kind("a.sqlite", _journals, _use_journal),
}


def mutated(content, others, rng):
    """A file spoilt somehow; what lies behind checksums is spoilt and gets right ones, half of the time."""
    inner = _inner(content) if rng.random() < 0.6 else None
    if inner is not None:
        return inner(rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        content = _spoilt(content, others, rng)
    return content


def _spoilt(content, others, rng):
    place = rng.randrange(len(content) + 1)
    length = min(rng.choice((1, 1, 2, 4, 16, 200)), len(content) - place)
    way = rng.randrange(9)
    if way == 0 and content:
        place = rng.randrange(len(content))
        return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    if way == 1:
        return content[:place]
    if way == 2:
        return content[:place] + content[place + length :]
    if way == 3:
        return content[:place] + content[place : place + length] * rng.choice((2, 3, 50)) + content[place + length :]
    if way == 4:
        other = rng.choice(others)
        return content[:place] + other[rng.randrange(len(other) + 1) :]
    if way == 5:
        return content[:place] + rng.choice(_TEXTS).encode("utf-8", "surrogatepass") + content[place + length :]
    telling = rng.choice(_TELLING) if way < 8 else bytes(rng.randrange(256) for _ in range(length))
    return content[:place] + telling + content[place + (len(telling) if way == 6 else 0) :]


def _inner(content):
    """A function from a generator to the file with something inside spoilt, if it is a zip, records or JSON."""
    if content.startswith(b"PK"):
        return lambda rng: _spoilt_zip(content, rng)
    if len(content) > 12 and struct.unpack("<Q", content[:8])[0] < len(content) and content[8:9] != b"{":
        return lambda rng: _spoilt_record(content, rng)
    if b"\n{" in content or b"\t{" in content or content.startswith(b"{"):
        return lambda rng: _spoilt_json_lines(content, rng)
    return None


def _spoilt_zip(content, rng):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    spoilt, target = rng.randrange(len(members)), io.BytesIO()
    way = rng.random()
    with zipfile.ZipFile(target, "w") as archive:
        for number, (name, inside) in enumerate(members):
            if number == spoilt:
                if way < 0.05:
                    continue
                if way < 0.1:
                    name = rng.choice(("../outside", "/tmp/outside", name + "x", "\x1b", "é" * 99))
                elif inside.startswith(b"{") and way < 0.7:
                    inside = _spoilt_json(inside, rng)
                else:
                    for _ in range(rng.choice((1, 1, 3))):
                        inside = _spoilt(inside, [inside], rng)
            archive.writestr(name, inside, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    return target.getvalue()


def _spoilt_record(content, rng):
    from lib.data.record_format import frame

    length = struct.unpack("<Q", content[:8])[0]
    inside = _spoilt(content[12 : 12 + length], [content], rng)
    return frame(inside) + content[16 + length :]


def _spoilt_json_lines(content, rng):
    parts = content.split(b"\n")
    places = [number for number, part in enumerate(parts) if b"{" in part and b"}" in part]
    if not places:
        return _spoilt(content, [content], rng)
    line = rng.choice(places)
    begin, end = parts[line].index(b"{"), parts[line].rindex(b"}") + 1
    parts[line] = parts[line][:begin] + _spoilt_json(parts[line][begin:end], rng) + parts[line][end:]
    return b"\n".join(parts)


def _spoilt_json(content, rng):
    """A JSON text with a value, or a key, somewhere in it replaced."""
    try:
        whole = [json.loads(content)]
    except ValueError:
        return _spoilt(content, [content], rng)
    holder, place = whole, 0
    while rng.random() < 0.85 and isinstance(holder[place], (dict, list)) and holder[place]:
        holder = holder[place]
        place = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    if isinstance(holder, dict) and rng.random() < 0.2:
        holder[rng.choice((*holder, "name", "weights", "self", "a" * 300, "\ud800"))] = holder.pop(place)
    else:
        holder[place] = rng.choice(_VALUES)
    return json.dumps(whole[0]).encode()


def check(kind, content, folder):
    """Use an input in an empty folder.

    Returns:
        Whether it was taken, rather than refused in a sentence.

    Raises:
        AssertionError, or whatever else is not right.
    """
    from lib.data.images import ImageError
    from lib.errors import UsageError, WorkError

    path = os.path.join(folder, kind.name)
    Path(path).write_bytes(content)
    try:
        kind.use(path)
        return True
    except ImageError as error:
        assert str(error), "no reason"
    except (UsageError, WorkError) as error:
        words = str(error)
        assert words.endswith((".", "anew")) and re.search("/|-|such as ", words), f"names no file or option: {words}"
        assert "Traceback" not in words and not re.search(r"[a-z]Error\(", words), words
    return False


def inputs(name, seed, folder):
    """Yield number and content of the inputs of a kind, without end."""
    seeds = KINDS[name].seeds(Path(folder))
    number = 0
    while True:
        rng = random.Random(f"{name} {seed} {number}")
        yield number, mutated(rng.choice(seeds), seeds, rng)
        number += 1


def tried(name, seed, seconds=float("inf"), most=None, first=0, keep=None, tell=_nothing):
    """Try inputs of a kind; returns how many, how many of them were taken, and the errors that are not the project's.

    Args:
        name: of `KINDS`.
        seed: of what is drawn.
        seconds, most: for how long, how many.
        first: the number of the first.
        keep: the folder for inputs that break something; None for none.
        tell: called with each input's number before it is used, and its path.
    """
    end, count, taken, found = time.monotonic() + seconds, 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        seeds = tempfile.mkdtemp(dir=folder)
        for number, content in inputs(name, seed, seeds):
            if number < first:
                continue
            if time.monotonic() > end or count == most:
                break
            place = tempfile.mkdtemp(dir=folder)
            tell(number, content)
            count += 1
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    taken += check(KINDS[name], content, place)
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                found.append(f"{name} {number}: {error!r:.200} ({Path(last.filename).name}:{last.lineno})")
                if keep:
                    (Path(keep) / f"{name}-{seed}-{number}").write_bytes(content)
            left = set(os.listdir(folder)) - {os.path.basename(path) for path in (place, seeds)}
            if left or os.path.exists("/tmp/outside"):
                found.append(f"{name} {number}: wrote outside of its folder")
            shutil.rmtree(place)
    return count, taken, found


def _child(arguments):
    """Try one kind, and say on stdout after each input where it is, since a crash says nothing."""

    def tell(number, content):
        (Path(arguments.keep) / "current").write_bytes(content)
        print(f"at {number}", flush=True)
        faulthandler.dump_traceback_later(_SECONDS, exit=True)

    # What they import takes long, and is not to be counted.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        check(KINDS[arguments.kind], KINDS[arguments.kind].seeds(Path(folder))[-1], tempfile.mkdtemp(dir=folder))
    if arguments.kind not in (
        "keras",
        "exact-picture",
        "state",
    ):  # for which TensorFlow reserves what it may never take
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    found = tried(arguments.kind, arguments.seed, arguments.seconds, None, arguments.first, arguments.keep, tell)
    print("result " + json.dumps(found), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", default="fuzz.tmp", metavar="FOLDER")
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.makedirs(arguments.keep, exist_ok=True)
    if arguments.first is not None:
        _child(arguments)
        return 0
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    broken = 0
    for name in [arguments.kind] if arguments.kind else KINDS:
        end, first, count, taken, found = time.monotonic() + arguments.seconds, 0, 0, 0, []
        while True:
            left = end - time.monotonic()
            command = [sys.executable, __file__, str(max(0, left)), "--kind", name, "--seed", str(arguments.seed)]
            done = subprocess.run(
                [*command, "--keep", arguments.keep, "--first", str(first)],
                capture_output=True,
                env=environment,
                text=True,
                errors="replace",
            )
            lines = done.stdout.splitlines()
            if lines and lines[-1].startswith("result "):
                more = json.loads(lines[-1][7:])
                count, taken, found = count + more[0], taken + more[1], found + more[2]
                break
            numbers = [int(line[3:]) for line in lines if line.startswith("at ")]
            reason = done.stderr.strip().splitlines()[-1:] or [""]
            number = numbers[-1] if numbers else first
            found.append(f"{name} {number}: the process ended with {done.returncode} {reason[0]:.120}")
            current = Path(arguments.keep) / "current"
            if current.exists():
                os.replace(current, Path(arguments.keep) / f"{name}-{arguments.seed}-{number}")
            count, first = count + len(numbers), number + 1
            if not numbers or len(found) > 20:
                break
        print(f"{name}: {count:,} inputs, {taken:,} taken, {len(found)} wrong", flush=True)
        for line in found[:20]:
            print(f"    {line}", flush=True)
        broken += len(found)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
