"""Records of fractals: what they follow from, and that nothing is lost, mixed up or written over."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from lib.data import fractals
from lib.data.attractors import draw_category
from lib.data.fractals import Settings, make_fractals
from lib.data.records import load_images, open_records, read_jpeg
from lib.errors import UsageError, WorkError
from lib.storage import files
from lib.storage.journal import Journal

FILES = {"f-train.tfr", "f-test.tfr", "f-settings.json"}


@pytest.fixture
def make(tmp_path, caplog):
    """Makes small records with a prefix; returns the two files' bytes and what was said."""

    def call(prefix="f", **settings):
        given = {"categories": 6, "size": 16, "seed": 1, "processors": 1, **settings}
        caplog.clear()
        with caplog.at_level(logging.INFO, "lib"):
            made = make_fractals(Settings(str(tmp_path / prefix), **given))
        return [Path(path).read_bytes() for path, _ in made], caplog.messages

    return call


def test_the_stages_read_them(make, tmp_path):
    make(categories=5, size=40, views=2)
    for name, categories in (("train", [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]), ("test", [0, 1, 2, 3, 4])):
        found = open_records([str(tmp_path / f"f-{name}.tfr")], "train", 5)
        assert found.category.tolist() == categories
        pixels = load_images(found).take(np.arange(len(found)))
        assert pixels.shape == (len(found), 40, 40, 3)
        assert (pixels.max(axis=3) == pixels.min(axis=3)).all()  # grey
        if name == "test":
            drawn = [draw_category(1, category, [0], 40)[0] for category in range(5)]
            assert abs(pixels.astype("int16") - drawn).mean() < 2
        for index in range(len(found)):
            assert simplejpeg.decode_jpeg_header(read_jpeg(found, index))[2] == "YCbCr"  # that is, of three bands
        assert len({picture.tobytes() for picture in pixels}) == len(found)


def test_fewer_categories_are_the_beginning_of_more_and_more_views_keep_the_first(make, tmp_path):
    few, many = make("few", categories=4)[0], make("many", categories=7)[0]
    views, other = make("views", categories=4, views=40)[0], make("other", categories=4, seed=2)[0]
    for short, long in zip(few, many):
        assert long.startswith(short) and len(long) > len(short)
    assert few[1] == views[1] and not set(other) & set(few)
    found = open_records([str(tmp_path / "views-train.tfr")], "train")
    assert found.category.tolist() == [category for category in range(4) for _ in range(40)]
    jpegs = [read_jpeg(found, index) for index in range(160)]
    first = open_records([str(tmp_path / "few-train.tfr")], "train")
    assert jpegs[::40] == [read_jpeg(first, index) for index in range(4)]
    assert len(set(jpegs)) == 160


class Stopped(BaseException):
    """Ends the work as a kill does, but for what `with` and `finally` do."""


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        *(
            (fractals, "_records_of", 2),
            (Journal, "finish", 0),
            (fractals, "whole_file", 0),
            (fractals, "whole_file", 1),
        ),
        *((files.os, "replace", 0), (files.os, "replace", 1), (files.os, "replace", 2), (Journal, "remove", 0)),
    ],
)
def test_a_call_that_is_stopped_anywhere_resumes_and_ends_with_the_same_bytes(
    owner, name, calls, make, tmp_path, monkeypatch
):
    monkeypatch.setattr(fractals, "_PORTION", 4)
    expected, _ = make("expected", categories=8)
    make(categories=7)  # which are to be replaced
    real, left = getattr(owner, name), [calls]

    def stop(*arguments, **options):
        if left[0] == 0:
            raise Stopped
        left[0] -= 1
        return real(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(owner, name, stop)
        make(categories=8)
    assert make(categories=8)[0] == expected
    assert {path.name for path in tmp_path.glob("f-*")} == FILES


def test_pictures_drawn_before_are_not_drawn_again(make, monkeypatch):
    def stop(settings, portion):
        if portion[0][0]:
            raise Stopped
        return real(settings, portion)

    real = fractals._records_of
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(fractals, "_records_of", stop)
        make(categories=40)
    drawn = []
    monkeypatch.setattr(
        fractals, "_records_of", lambda settings, portion: drawn.append(portion) or real(settings, portion)
    )
    made, said = make(categories=40)
    assert said[0] == "32 of 80 pictures have already been drawn."
    assert sum(map(len, drawn)) == 48
    monkeypatch.undo()
    assert made == make("other", categories=40)[0]


def test_records_that_were_cut_or_lost_are_made_again(make, tmp_path):
    undisturbed, _ = make()
    (tmp_path / "f-test.tfr").unlink()
    assert make()[0] == undisturbed
    with open(tmp_path / "f-train.tfr", "r+b") as file:
        file.truncate(100)
    made, said = make()
    assert made == undisturbed and not said
    made, said = make()
    assert made == undisturbed and "there is nothing to do" in said[0]


def test_other_settings_replace_the_records_in_the_end_and_begin_anew(make, tmp_path):
    expected, _ = make("expected", seed=9)
    former, _ = make()
    with Journal(str(tmp_path / "f-partial.sqlite"), "fractals", {"seed": 5}) as journal:
        journal.add(bytes(8), b"of other settings")
    made, said = make(seed=9)
    assert "other settings; its records will be replaced" in said[0]
    assert made == expected != former


def test_unfinished_work_with_other_settings_stays_when_there_is_nothing_to_do(make, tmp_path):
    make()
    with Journal(str(tmp_path / "f-partial.sqlite"), "fractals", {"seed": 5}) as journal:
        journal.add(bytes(8), b"of other settings")
    assert "nothing to do" in make()[1][0] and (tmp_path / "f-partial.sqlite").exists()


@pytest.mark.parametrize("name", sorted(FILES))
def test_somebody_elses_files_are_left_alone(name, make, tmp_path):
    (tmp_path / name).write_text("somebody's")
    with pytest.raises(UsageError, match=f"{name} exists, but was not made by fractals.py") as error:
        make()
    assert error.value.setting == "output" and os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "somebody's"


def test_a_directory_in_the_way_is_one_sentence(make, tmp_path):
    (tmp_path / "f-test.tfr").mkdir()
    with pytest.raises(UsageError, match="f-test.tfr exists, but was not made by fractals.py"):
        make()


def test_records_of_former_versions_are_known(make, tmp_path):
    make()
    recorded = json.loads((tmp_path / "f-settings.json").read_text())
    assert recorded == {
        "fractals": {"categories": 6, "size": 16, "views": 1, "quality": 94, "seed": 1, "rules": 1},
        "bytes": {name: (tmp_path / f"f-{name}.tfr").stat().st_size for name in ("train", "test")},
    }


def test_no_room_for_all_is_an_error_at_the_beginning(make, tmp_path, monkeypatch):
    class Space:
        f_bavail, f_frsize = 100, 4096

    monkeypatch.setattr(fractals.os, "statvfs", lambda path: Space)
    with pytest.raises(WorkError, match=r"^0\.4 MB are free, but about [23]\.\d GB are needed for .*f-train\.tfr"):
        make(categories=1_000_000)
    assert os.listdir(tmp_path) == []
