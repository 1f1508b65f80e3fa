"""Records: TensorFlow reads what is written, damage is found and named, pixels are TensorFlow's."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image

from lib.cli import legacy as cli
from lib.data import records
from lib.data.records import decode, load_images, make_record, open_records, parse_record, read_number_map
from lib.errors import UsageError, WorkError


def jpeg(seed, size=(16, 12), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture
def two_files(tmp_path):
    for name, numbers in (("a", range(5)), ("b", range(5, 8))):
        (tmp_path / f"{name}.tfr").write_bytes(b"".join(make_record(number % 3, jpeg(number)) for number in numbers))
    return str(tmp_path / "a.tfr"), str(tmp_path / "b.tfr")


def example(**features):
    content = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    head = struct.pack("<Q", len(content))
    check = records._checksum
    return head + struct.pack("<I", check(head)) + content + struct.pack("<I", check(content))


def integers(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def strings(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def test_tensorflow_reads_what_is_written(two_files):
    features = {"category": tf.io.FixedLenFeature([], tf.int64), "image": tf.io.FixedLenFeature([], tf.string)}
    read = [tf.io.parse_single_example(record, features) for record in tf.data.TFRecordDataset(list(two_files))]
    assert [int(one["category"]) for one in read] == [number % 3 for number in range(8)]
    assert [one["image"].numpy() for one in read] == [jpeg(number) for number in range(8)]


@pytest.mark.parametrize("category", [0, 1, 127, 128, 20999])
@pytest.mark.parametrize("size", [1, 100, 20000, 3_000_000])
def test_a_record_has_the_bytes_that_tensorflow_writes(category, size, tmp_path):
    content = bytes(size)
    features = {"image": strings(content), "category": integers(category)}
    written = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfr")) as writer:
        writer.write(written)
    assert make_record(category, content) == (tmp_path / "a.tfr").read_bytes()


def test_what_tensorflow_writes_is_read(tmp_path):
    path = str(tmp_path / "a.tfr")
    with tf.io.TFRecordWriter(path) as writer:
        for number in range(3):
            features = {"image": strings(jpeg(number)), "category": integers(number)}
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    found = open_records([path], "-t/--train", outputs=3)
    assert found.category.tolist() == [0, 1, 2]
    images = load_images(found, report=lambda message: None)
    expected = [tf.io.decode_jpeg(jpeg(number), channels=3).numpy() for number in range(3)]
    np.testing.assert_array_equal(images.take([2, 0]), [expected[2], expected[0]])


def test_pixels_are_those_of_tensorflow(shared):
    found = open_records([str(shared / "golden" / "sample-96.tfr")], "-t/--test", outputs=17)
    assert len(found) == 140
    for index in range(0, 140, 7):
        content = records.read_jpeg(found, index)
        for bands in (1, 3):
            np.testing.assert_array_equal(decode(content, bands), tf.io.decode_jpeg(content, channels=bands).numpy())


@pytest.mark.parametrize("cache", ["memory", "disk", "none", None])
def test_every_cache_gives_the_same_pixels(cache, two_files):
    said = []
    images = load_images(open_records(two_files, "-t/--train"), cache=cache, processors=1, report=said.append)
    assert images.shape == (12, 16, 3) and len(images) == 8
    taken = images.take(np.array([7, 0, 0, 3]))
    assert taken.dtype == np.uint8
    np.testing.assert_array_equal(taken, [decode(jpeg(number)) for number in (7, 0, 0, 3)])
    assert len(said) == 1 and "8 images of 16 x 12 pixels" in said[0]


def test_grey_images_are_decoded_to_the_bands_that_are_asked_for(tmp_path):
    (tmp_path / "a.tfr").write_bytes(make_record(0, jpeg(1, mode="L")) + make_record(0, jpeg(2)))
    for bands in (1, 3):
        images = load_images(open_records([str(tmp_path / "a.tfr")], "-t"), bands=bands, report=lambda message: None)
        assert images.take([0, 1]).shape == (2, 12, 16, bands)


def test_the_cache_is_chosen_by_what_fits(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "free_memory", lambda: 1000)
    assert records.choose_cache(500) == "memory"
    assert records.choose_cache(501) == "disk"
    assert records.choose_cache(1 << 60) == "none"


BAD = {
    "cut": (lambda good: good[:-7], "is cut short"),
    "head": (lambda good: good[:5], "is cut short"),
    "length": (lambda good: b"\xff" + good[1:], "damaged length"),
    "content": (lambda good: good[:60] + bytes([good[60] ^ 1]) + good[61:], "broken checksum"),
    "no image": (lambda good: example(category=integers(1)), "no feature 'image'"),
    "no category": (lambda good: example(image=strings(jpeg(1))), "no feature 'category'"),
    "two": (lambda good: example(category=integers(1, 2), image=strings(jpeg(1))), "one int64"),
    "text": (lambda good: example(category=strings(b"1"), image=strings(jpeg(1))), "one int64"),
    "png": (lambda good: example(category=integers(1), image=strings(b"\x89PNG\r\n")), "not a JPEG"),
    "no example": (lambda good: raw(b"\x07\xff\xff"), "not a tf.train.Example"),
}


def raw(content):
    head = struct.pack("<Q", len(content))
    parts = (head, struct.pack("<I", records._checksum(head)), content, struct.pack("<I", records._checksum(content)))
    return b"".join(parts)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_record_is_named_and_can_be_skipped(kind, tmp_path):
    spoil, words = BAD[kind]
    path = str(tmp_path / "a.tfr")
    good = [make_record(number, jpeg(number)) for number in range(3)]
    at_the_end = kind in ("cut", "head")
    (tmp_path / "a.tfr").write_bytes(good[0] + spoil(good[1]) + (b"" if at_the_end else good[2]))
    with pytest.raises(WorkError, match=rf"a\.tfr, record 1, .*{words}.*--skip-bad"):
        open_records([path], "-t/--train")
    found = open_records([path], "-t/--train", skip_bad=True)
    assert found.category.tolist() == ([0] if at_the_end or kind == "length" else [0, 2])
    assert len(found.skipped) == 1 and "record 1" in found.skipped[0]


def test_a_jpeg_that_cannot_be_decoded_is_named_and_can_be_skipped(tmp_path):
    broken = jpeg(1, (64, 64))[:-900] + b"\xff\xd9"
    (tmp_path / "a.tfr").write_bytes(make_record(0, jpeg(0)) + make_record(1, broken) + make_record(2, jpeg(2)))
    found = open_records([str(tmp_path / "a.tfr")], "-t/--train")
    for cache in ("memory", "none"):
        with pytest.raises(WorkError, match=r"a\.tfr, record 1, holds a JPEG that can't be decoded"):
            load_images(found, cache=cache, report=lambda message: None)
        images = load_images(found, cache=cache, skip_bad=True, report=lambda message: None)
        assert images.records.category.tolist() == [0, 2] and len(images.records.skipped) == 1
        np.testing.assert_array_equal(images.take([1, 0]), [decode(jpeg(2)), decode(jpeg(0))])


def test_images_of_different_sizes_are_refused(tmp_path):
    (tmp_path / "a.tfr").write_bytes(make_record(0, jpeg(0)) + make_record(1, jpeg(1, (20, 12))))
    found = open_records([str(tmp_path / "a.tfr")], "-t/--train")
    with pytest.raises(UsageError, match=r"a\.tfr, record 1, is 20 x 12 pixels where others are 16 x 12"):
        load_images(found, report=lambda message: None)


def test_large_images_are_decoded_a_few_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.tfr"
    path.write_bytes(b"".join(make_record(0, jpeg(number)) for number in range(5)))
    found = open_records([str(path)], "-t/--train")
    for most, expected in ((2 * 12 * 16 * 3, [2, 2, 1]), (1, [1] * 5), (1 << 20, [5])):
        monkeypatch.setattr(records, "_CHUNK_BYTES", most)
        chunks = list(records._decoded(found, 3, range(5), 2, (12, 16, 3)))
        assert [len(chunk) for chunk, _, _ in chunks] == expected
        assert [picture.shape for _, pictures, _ in chunks for picture in pictures] == [(12, 16, 3)] * 5
    path.write_bytes(b"".join(make_record(0, jpeg(number, (300, 200))) for number in range(3)))
    sizes, _, _, examples, _ = records._look_at_all(open_records([str(path)], "FILE"), False)
    assert sizes == {(300, 200): 3} and [picture.shape for picture in examples[0]] == [(96, 96, 3)] * 3


def test_categories_are_checked(two_files):
    with pytest.raises(UsageError, match=r"-t/--train: .*a\.tfr, record 2, has the category 2; 0 to 1 are right"):
        open_records(two_files, "-t/--train", outputs=2)
    found = open_records(two_files, "-t/--train", outputs=2, number_map={0: 1, 1: 0, 2: 1})
    assert found.category.tolist() == [1, 0, 1, 1, 0, 1, 1, 0]
    with pytest.raises(UsageError, match=r"-n/--numberMap: the map has no category 1, which .*record 1, has"):
        open_records(two_files, "-t/--train", number_map={0: 0, 2: 1})


def test_no_records_is_an_error(tmp_path):
    (tmp_path / "a.tfr").write_bytes(b"")
    with pytest.raises(UsageError, match=r"-v/--validate: there are no records in .*a\.tfr"):
        open_records([str(tmp_path / "a.tfr")], "-v/--validate")


def test_number_maps(tmp_path):
    path = tmp_path / "map.tsv"
    path.write_text("OLD\tNEW\tnote\n3\t0\tx\n5\t1\n")
    assert read_number_map(path) == {3: 0, 5: 1}
    for text in ("OLD\tNEW\n", "OLD\tNEW\n1\n", "OLD\tNEW\n1\tx\n", "OLD\tNEW\n1\t2\n1\t3\n"):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"-n/--numberMap: .*map\.tsv"):
            read_number_map(path)
    with pytest.raises(UsageError, match="can't be read"):
        read_number_map(tmp_path / "missing.tsv")


def test_files_are_lists_and_globs(two_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.record_files("a.tfr") == ("a.tfr",)
    assert cli.record_files("b.tfr,a.tfr") == ("b.tfr", "a.tfr")
    assert cli.record_files("*.tfr") == ("a.tfr", "b.tfr") == cli.record_files("a.tfr,*.tfr")
    for wrong in ("c.tfr", "a.tfr,c*.tfr", ""):
        with pytest.raises(Exception, match="not an existing file"):
            cli.record_files(wrong)


def test_a_parsed_record_is_what_was_made():
    made = make_record(11, jpeg(4))
    assert parse_record(made[12:-4]) == (11, jpeg(4))


@pytest.mark.slow
def test_the_report_counts_finds_duplicates_and_draws_a_sheet(two_files, tmp_path):
    with open(two_files[1], "ab") as file:
        file.write(make_record(0, jpeg(1)))
    labels = tmp_path / "labels.tsv"
    labels.write_text("INDEX\tLABEL\n0\tfern\n1\tmoss\n2\tpalm\n")
    command = [sys.executable, "-m", "lib.data.records", *two_files, "--labels", labels, "--sheet", tmp_path / "s.png"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:5] == ["CATEGORY\ta.tfr\tb.tfr", "fern\t2\t2", "moss\t2\t1", "palm\t1\t1", "all\t5\t4"]
    assert "9 images of 16 x 12 pixels" in lines
    assert "a.tfr and b.tfr share 1 equal images and 0 that are nearly the same" in lines
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 3 * 96 and sheet.height > 3 * 96


@pytest.mark.parametrize(
    ("wrong", "words"), [(["missing.tfr"], "missing.tfr"), (["--duplicates", "11"], "--duplicates")]
)
def test_the_report_of_nothing_is_one_line(wrong, words, two_files):
    command = [sys.executable, "-m", "lib.data.records", two_files[0], *wrong]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr
