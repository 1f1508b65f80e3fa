"""Records are TensorFlow's, in bytes and pixels, and damage is found."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from toys import jpeg

from lib.data.record_format import BadRecordError, decode, frame, make_record, parse_record, scan
from lib.data.records import open_records, read_jpeg
from lib.errors import WorkError


def example(**features):
    """A record in a file as TensorFlow makes it."""
    return frame(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def integers(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def strings(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


@pytest.mark.parametrize("category", [0, 1, 127, 128, 20999])
@pytest.mark.parametrize("size", [1, 100, 20000, 3_000_000])
def test_a_record_has_the_bytes_that_tensorflow_writes(category, size, tmp_path):
    content = bytes(size)
    features = {"image": strings(content), "category": integers(category)}
    written = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfr")) as writer:
        writer.write(written)
    assert make_record(category, content) == (tmp_path / "a.tfr").read_bytes()


def test_tensorflow_reads_what_is_written(tmp_path):
    (tmp_path / "a.tfr").write_bytes(b"".join(make_record(number, jpeg(number)) for number in range(4)))
    features = {"category": tf.io.FixedLenFeature([], tf.int64), "image": tf.io.FixedLenFeature([], tf.string)}
    written = tf.data.TFRecordDataset(str(tmp_path / "a.tfr"))
    read = [tf.io.parse_single_example(record, features) for record in written]
    assert [int(one["category"]) for one in read] == [0, 1, 2, 3]
    assert [one["image"].numpy() for one in read] == [jpeg(number) for number in range(4)]


def test_what_tensorflow_writes_is_read_and_other_features_do_not_matter(tmp_path):
    floats = tf.train.Feature(float_list=tf.train.FloatList(value=[0.5]))
    for more in ({}, {"weight": floats, "source": strings(b"x")}):
        features = {"image": strings(jpeg(1)), "category": integers(7), **more}
        written = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
        assert parse_record(written) == (7, jpeg(1))


def test_records_are_made_and_read_without_tensorflow_and_before_it_is_imported():
    code = """
import sys
from lib.data.record_format import make_record, parse_record
content = make_record(3, b"\\xff\\xd8 picture")[12:-4]
assert "tensorflow" not in sys.modules
import tensorflow as tf
assert parse_record(content) == (3, b"\\xff\\xd8 picture")
features = tf.train.Example.FromString(content).features.feature
assert features["category"].int64_list.value[0] == 3
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


many = settings(
    derandomize=True, database=None, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck)
)


@many
@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.binary(max_size=200)), min_size=1, max_size=4), st.data())
def test_records_come_back_and_any_bit_that_changes_is_noticed(tmp_path_factory, items, data):
    path = tmp_path_factory.mktemp("records") / "a.tfr"
    content = b"".join(make_record(category, b"\xff\xd8" + image) for category, image in items)
    path.write_bytes(content)
    records = open_records([str(path)], "train")
    assert records.category.tolist() == [category for category, _ in items]
    assert [read_jpeg(records, index)[2:] for index in range(len(items))] == [image for _, image in items]
    place = data.draw(st.integers(0, 8 * len(content) - 1))
    spoilt = bytearray(content)
    spoilt[place // 8] ^= 1 << place % 8
    path.write_bytes(spoilt)
    with pytest.raises(WorkError, match="a.tfr, record [0-9]+,"):
        open_records([str(path)], "train")


@many
@given(st.binary(max_size=60), st.data())
def test_any_content_is_a_record_or_refused_as_tensorflow_does(noise, data):
    good = make_record(5, b"\xff\xd8 picture")[12:-4]
    place = data.draw(st.integers(0, len(good)))
    for content in (noise, good[:place] + noise + good[place:], good[:place] + noise):
        try:
            features = tf.train.Example.FromString(content).features.feature
            expected = list(features["category"].int64_list.value), list(features["image"].bytes_list.value)
        except Exception:  # of the protobuf that TensorFlow uses
            expected = None
        try:
            category, image = parse_record(content)
        except BadRecordError:
            assert expected is None or [len(part) for part in expected] != [1, 1] or expected[1][0][:2] != b"\xff\xd8"
        else:
            assert expected == ([category], [image])


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
    "no example": (lambda good: frame(b"\x07\xff\xff"), "not a tf.train.Example"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_record_is_named_and_can_be_skipped(kind, tmp_path):
    spoil, words = BAD[kind]
    path = str(tmp_path / "a.tfr")
    good = [make_record(number, jpeg(number)) for number in range(3)]
    at_the_end = kind in ("cut", "head")
    (tmp_path / "a.tfr").write_bytes(good[0] + spoil(good[1]) + (b"" if at_the_end else good[2]))
    with pytest.raises(WorkError, match=rf"a\.tfr, record 1, .*{words}.*⟦skip_bad⟧ leaves such records out\."):
        open_records([path], "train")
    found = open_records([path], "train", skip_bad=True)
    assert found.category.tolist() == ([0] if at_the_end or kind == "length" else [0, 2])
    assert len(found.skipped) == 1 and "record 1" in found.skipped[0]


def test_a_scan_gives_each_record_and_where_it_lies(tmp_path):
    content = b"".join(make_record(number, jpeg(number)) for number in range(3))
    (tmp_path / "a.tfr").write_bytes(content + b"\x01")
    found = list(scan(str(tmp_path / "a.tfr")))
    assert [one.number for one in found] == [0, 1, 2, 3] and found[3].problem.startswith("is cut short")
    for one in found[:3]:
        assert one.problem is None and content[one.offset : one.offset + len(one.content)] == one.content


def test_pixels_are_those_of_tensorflow(shared):
    found = open_records([str(shared / "golden" / "sample-96.tfr")], "test", 17)
    assert len(found) == 140
    for index in range(0, 140, 7):
        content = read_jpeg(found, index)
        for bands in (1, 3):
            np.testing.assert_array_equal(decode(content, bands), tf.io.decode_jpeg(content, channels=bands).numpy())


def test_small_pictures_that_would_take_all_memory_or_time_are_refused():
    with io.BytesIO() as file:
        Image.fromarray(np.zeros((16, 16, 3), "uint8")).save(file, "JPEG", progressive=True)
        small = file.getvalue()
    assert decode(small).shape == (16, 16, 3)
    place = small.index(b"\xff\xc2") + 5
    large = small[:place] + struct.pack(">HH", 65500, 65500) + small[place + 4 :]
    with pytest.raises(BadRecordError, match="65500 x 65500 pixels, more than"):
        decode(large)
    odd = bytearray(small)
    odd[place + 6] = 0x41  # a sampling of the first colour that nobody uses
    with pytest.raises(BadRecordError, match="holds a JPEG that can't be decoded"):
        decode(bytes(odd))
    last = small.rindex(b"\xff\xda")
    slow = small[:-2] + small[last:-2] * 600 + small[-2:]
    with pytest.raises(BadRecordError, match=r"\(it has 610 scans\)"):
        decode(slow)
    with pytest.raises(BadRecordError, match=r"can't be decoded \(its header is damaged or cut short\)"):
        decode(b"\xff\xd8")


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_compressed_records_are_named_as_such(kind, tmp_path):
    path = str(tmp_path / "a.tfr")
    with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type=kind)) as writer:
        writer.write(make_record(1, jpeg(1))[12:-4])
    for skip_bad in (False, True):
        with pytest.raises(WorkError, match=r"a\.tfr is compressed \(GZIP or ZLIB\); give the file unpacked"):
            open_records((path,), "test", 3, None, skip_bad)
