"""fractals.py as its users call it, and the attractors that it draws."""

import hashlib
import json
import math
import os
import signal
import subprocess
import time

import numpy as np
import pytest
import simplejpeg
from conftest import script
from PIL import Image

from lib.data import attractors
from lib.data.attractors import (
    System,
    bits_of,
    contractive,
    degenerate,
    draw_category,
    find_system,
    levels,
    play,
    random_system,
)
from lib.data.fractals import Settings, make_fractals
from lib.data.records import load_images, open_records, read_jpeg

# Of `-n 12 -s 32 --views 2 -r 1`, whatever the Python, numpy and number of cores.
TRAIN = "d683dbf49cfdee5329f55b8294837dfe3a3adada1f1028e38197b15012ec1321"
TEST = "0cec4e46fb5ef07fc76d3cb9810db54f63fbe8fad211824d26c466ee9b0d7a4b"


def run(here, *arguments):
    command = [*script("fractals.py"), "-o", "f", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=here)


def files(here):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in here.iterdir()}


def records(here, prefix="f"):
    return [(here / f"{prefix}-{name}.tfr").read_bytes() for name in ("train", "test")]


def quietly(here, prefix="f", processors=1, **settings):
    """Make small records with the function; returns whether there was anything to do, and what was said."""
    said = []
    given = {"categories": 6, "size": 16, "views": 1, "quality": 94, "seed": 1, **settings}
    *_, made = make_fractals(Settings(**given), str(here / prefix), processors, said.append)
    return made, said


# The program.


def test_records_are_what_is_pinned_on_any_number_of_cores_and_a_second_run_changes_nothing(tmp_path):
    for processors in ("1", "2"):
        here = tmp_path / processors
        here.mkdir()
        done = run(here, "-n", "12", "-s", "32", "--views", "2", "-r", "1", "-p", processors)
        assert (done.returncode, done.stdout) == (0, "f-train.tfr\t24\nf-test.tfr\t12\n"), done.stderr
        assert [hashlib.sha256(content).hexdigest() for content in records(here)] == [TRAIN, TEST]
    before = files(here)
    assert set(before) == {"f-train.tfr", "f-test.tfr", "f-settings.json"}
    done = run(here, "-n", "12", "-s", "32", "--views", "2", "-r", "1")
    assert done.returncode == 0 and "there is nothing to do" in done.stderr
    assert files(here) == before


def test_the_stages_read_them(tmp_path):
    quietly(tmp_path, categories=5, size=40, views=2)
    for name, categories in (("train", [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]), ("test", [0, 1, 2, 3, 4])):
        found = open_records([str(tmp_path / f"f-{name}.tfr")], "-t/--train", outputs=5)
        assert found.category.tolist() == categories
        images = load_images(found, report=lambda message: None)
        pixels = images.take(np.arange(len(found)))
        assert pixels.shape == (len(found), 40, 40, 3)
        assert (pixels.max(axis=3) == pixels.min(axis=3)).all()  # grey
        if name == "test":
            drawn = [draw_category(1, category, [0], 40)[0] for category in range(5)]
            assert abs(pixels.astype("int16") - drawn).mean() < 2
        for index in range(len(found)):
            assert simplejpeg.decode_jpeg_header(read_jpeg(found, index))[2] == "YCbCr"  # that is, of three bands
        assert len({picture.tobytes() for picture in pixels}) == len(found)


def test_fewer_categories_are_the_beginning_of_more_and_more_views_keep_the_first(tmp_path):
    quietly(tmp_path, "few", categories=4)
    quietly(tmp_path, "many", categories=7)
    quietly(tmp_path, "views", categories=4, views=40)
    quietly(tmp_path, "other", categories=4, seed=2)
    for few, many in zip(records(tmp_path, "few"), records(tmp_path, "many")):
        assert many.startswith(few) and len(many) > len(few)
    assert records(tmp_path, "few")[1] == records(tmp_path, "views")[1]
    assert not set(records(tmp_path, "other")) & set(records(tmp_path, "few"))
    found = open_records([str(tmp_path / "views-train.tfr")], "-t")
    assert found.category.tolist() == [category for category in range(4) for _ in range(40)]
    jpegs = [read_jpeg(found, index) for index in range(160)]
    first = open_records([str(tmp_path / "few-train.tfr")], "-t")
    assert jpegs[::40] == [read_jpeg(first, index) for index in range(4)]
    assert len(set(jpegs)) == 160


def start(here, *arguments, at_once=False):
    """Start a run; returns when it has written something, or, if `at_once`, has begun to start its processes."""
    command = [*script("fractals.py"), "-o", "f", "-p", "2", *arguments]
    process = subprocess.Popen(
        command,
        cwd=here,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    path = here / "f-train.tfr.partial"
    before = path.stat().st_size if path.exists() else 0
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if at_once and len(children(process)) > 1:
            return process
        if path.exists() and path.stat().st_size > before:
            return process
        time.sleep(0.01)
    raise AssertionError(f"the run ended too early: {process.communicate()[1]}")


def children(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return [int(number) for number in file.read().split()]


def is_running(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.once
def test_a_run_that_is_killed_and_stopped_ends_with_the_same_bytes_and_leaves_no_process(tmp_path):
    here = tmp_path / "killed"
    here.mkdir()
    sizes = ("-n", "300", "-s", "16", "-r", "3")
    started = []
    process = start(here, *sizes)
    started.extend(children(process))
    process.kill()
    process.communicate()
    with open(here / "f-train.tfr.partial", "ab") as file:  # a record that was cut short
        file.write(b"\x10\x00\x00")
    process = start(here, *sizes)
    started.extend(children(process))
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C on a terminal, which all processes get
    error = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130 and error[-1] == "fractals.py: stopped by Ctrl-C.", error
    assert len(error) == 2 and "of 300 categories have already been drawn" in error[0], error
    process = start(here, *sizes)
    started.extend(children(process))
    os.kill(max(children(process)), signal.SIGKILL)  # as the kernel does when memory runs out
    error = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 1 and "was killed" in error[-1], error
    deadline = time.monotonic() + 20
    while any(map(is_running, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert started and not any(map(is_running, started))
    done = run(here, *sizes)
    assert done.returncode == 0 and "already been drawn" in done.stderr, done.stderr
    assert set(files(here)) == {"f-train.tfr", "f-test.tfr", "f-settings.json"}
    quietly(tmp_path, categories=300, seed=3)
    assert records(here) == records(tmp_path)


def test_ctrl_c_while_the_processes_start_is_one_line(tmp_path):
    process = start(tmp_path, "-n", "300", "-s", "16", at_once=True)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "fractals.py: stopped by Ctrl-C.\n"
    assert process.returncode == 130


def test_a_run_that_was_killed_while_naming_its_files_names_the_others(tmp_path):
    quietly(tmp_path)
    undisturbed = records(tmp_path)
    state = {"fractals": json.loads((tmp_path / "f-settings.json").read_text())["fractals"]}
    (tmp_path / "f-partial.json").write_text(json.dumps(state))
    os.rename(tmp_path / "f-test.tfr", tmp_path / "f-test.tfr.partial")
    made, said = quietly(tmp_path)
    assert made and not said and records(tmp_path) == undisturbed
    assert set(files(tmp_path)) == {"f-train.tfr", "f-test.tfr", "f-settings.json"}


def test_records_that_were_cut_or_lost_are_made_again(tmp_path):
    quietly(tmp_path)
    undisturbed = records(tmp_path)
    (tmp_path / "f-test.tfr").unlink()
    assert quietly(tmp_path)[0] and records(tmp_path) == undisturbed
    with open(tmp_path / "f-train.tfr", "r+b") as file:
        file.truncate(100)
    assert quietly(tmp_path)[0] and records(tmp_path) == undisturbed


def test_other_settings_replace_the_records_in_the_end_and_begin_drafts_anew(tmp_path):
    quietly(tmp_path, "expected", seed=9)
    quietly(tmp_path)
    former = records(tmp_path)
    (tmp_path / "f-partial.json").write_text('{"fractals": {"seed": 5}}')
    (tmp_path / "f-train.tfr.partial").write_bytes(former[0])  # of those other settings
    (tmp_path / "f-test.tfr.partial").write_bytes(former[1])
    made, said = quietly(tmp_path, seed=9)
    assert made and "other settings; its records will be replaced" in said[0]
    assert records(tmp_path) == records(tmp_path, "expected") != former


@pytest.mark.parametrize("name", ["f-train.tfr", "f-test.tfr", "f-settings.json"])
def test_what_is_not_of_this_program_is_left_alone(name, tmp_path):
    (tmp_path / name).write_text("somebody's")
    done = run(tmp_path, "-n", "2", "-s", "16")
    assert done.returncode == 2 and name in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert {path: content for path, (content, _) in files(tmp_path).items()} == {name: b"somebody's"}


@pytest.mark.slow
def test_two_runs_at_once_are_refused(tmp_path):
    process = start(tmp_path, "-n", "1000000", "-s", "16")
    try:
        done = run(tmp_path, "-n", "1000000", "-s", "16")
        assert done.returncode == 2 and "another process" in done.stderr and done.stderr.count("\n") == 1
    finally:
        process.terminate()
        assert process.communicate(timeout=60)[1].splitlines()[-1] == "fractals.py: told to stop."
    assert process.returncode == 143


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(tmp_path):
    command = " ".join(script("fractals.py")) + " -o f -n 80 -s 16 -p 1"
    done = subprocess.run(["sh", "-c", f"ulimit -f 60; {command}"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "f-train.tfr can't be written" in done.stderr or "f-test.tfr can't be written" in done.stderr
    made, said = quietly(tmp_path, categories=80, seed=123456789)
    assert made and "have already been drawn" in said[0]
    quietly(tmp_path, "expected", categories=80, seed=123456789)
    assert records(tmp_path) == records(tmp_path, "expected")


def test_no_room_for_all_is_told_before_anything_is_written(tmp_path, monkeypatch):
    from lib.data import fractals
    from lib.errors import WorkError

    space = os.statvfs(tmp_path)
    monkeypatch.setattr(fractals.os, "statvfs", lambda path: _Space(100, space.f_frsize))
    with pytest.raises(WorkError, match=r"0\.4 MB are free, but about 1\.\d GB are needed for .*f-train\.tfr"):
        quietly(tmp_path, categories=1_000_000, size=16)
    assert (tmp_path / "f-train.tfr.partial").stat().st_size == 0


class _Space:
    def __init__(self, blocks, size):
        self.f_bavail, self.f_frsize = blocks, size


def test_a_directory_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "f-test.tfr").mkdir()
    done = run(tmp_path, "-n", "2", "-s", "16")
    assert done.returncode == 1 and "f-test.tfr is a directory" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["-n", "1"], ["-n/--categories", "from 2 to 1000000"]),
        (["-n", "1000001"], ["-n/--categories"]),
        (["-s", "15"], ["-s/--size", "from 16 to 1024"]),
        (["-s", "1025"], ["-s/--size"]),
        (["--views", "0"], ["--views", "from 1 to 1000"]),
        (["--views", "1001"], ["--views"]),
        (["-q", "0"], ["-q/--quality"]),
        (["-r", "-1"], ["-r/--random"]),
        (["-p", "0"], ["-p/--processors"]),
        (["-o", "nowhere/f"], ["-o/--output", "nowhere"]),
        (["--sheet", "sheet.gif"], ["--sheet", ".png or .jpg"]),
        (["--sheet", "nowhere/sheet.png"], ["--sheet", "nowhere"]),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(wrong, words, tmp_path):
    done = run(tmp_path, *wrong)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(tmp_path.iterdir())


def test_a_contact_sheet_has_a_picture_for_each_category(tmp_path):
    done = run(tmp_path, "-n", "10", "-s", "32", "--sheet", "sheet.png", "-p", "1")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("L"))
    assert pixels.shape == (2 * (96 + 12 + 4) + 4, 8 * (96 + 4) + 4)
    black = (pixels < 32).reshape(-1).mean()
    assert 0.2 < black * pixels.size / (10 * 96 * 96) < 1  # the pictures' ground


# The attractors.


def test_maps_are_contractive():
    drawn = np.random.default_rng(1).uniform(-1, 1, (5000, 3, 4))
    norms = np.linalg.norm(drawn[:, :, :3], 2, axis=(1, 2))
    np.testing.assert_array_equal(contractive(drawn), norms < 1)
    counts = set()
    for category in range(100):
        system = random_system(bits_of(1, category))
        assert np.linalg.norm(system.maps[:, :, :3].astype("float64"), 2, axis=(1, 2)).max() < 1
        assert system.chances.sum() == 65536 and len(system.chances) == len(system.maps)
        volumes = abs(np.linalg.det(system.maps[:, :, :3].astype("float64")))
        np.testing.assert_allclose(system.chances / 65536, volumes / volumes.sum(), atol=2**-16)
        counts.add(len(system.maps))
    assert counts == set(range(2, 8))


def halving(corners, chances=None):
    """The system of maps half way to some corners."""
    maps = np.zeros((len(corners), 3, 4), "float32")
    maps[:, range(3), range(3)] = 0.5
    maps[:, :, 3] = np.array(corners) / 2
    return System(maps, np.array(chances or [65536 // len(corners)] * len(corners)))


TETRAHEDRON = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))


def test_the_chaos_game_stays_on_the_attractor_and_goes_everywhere():
    system = halving(TETRAHEDRON, [32768, 16384, 8192, 8192])
    points = play(system, bits_of(1, 0))
    assert points.shape == (3, 10240) and points.dtype == np.float32
    x, y, z = (points * 64).astype("int64")
    assert not ((x & y) | (x & z) | (y & z)).any()  # in binary no two coordinates of Sierpinski's tetrahedron share a 1
    assert len(np.unique((x * 64 + y) * 64 + z)) > 1000  # of the 4 ** 6 that there are
    np.testing.assert_allclose((points >= 0.5).mean(axis=1), [0.25, 0.125, 0.125], atol=0.02)
    further = play(system, bits_of(1, 1), 3, points[:, -256:])
    assert further.shape == (3, 768)
    x, y, z = (further * 64).astype("int64")
    assert not ((x & y) | (x & z) | (y & z)).any()


def test_degenerate_systems_are_dropped():
    def is_degenerate(corners):
        return degenerate(levels(play(halving(corners), bits_of(1, 0))))

    assert not is_degenerate([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])  # a cube
    assert is_degenerate([(1, 2, 3)] * 3)  # a point
    assert is_degenerate([(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)])  # a square, which an axis doesn't see
    assert is_degenerate([(0, 0, 0), (1, 1, 1)])  # a line that all axes see
    flat = np.random.default_rng(1).integers(0, 65536, (3, 10240))
    assert not degenerate(flat)
    # A uniform number of 0 to w · 65,535 has the variance w² / 3 where the whole span is 2.
    for width, expected in ((0.40, False), (0.38, True)):
        flat[1] = np.linspace(0, width * 65535, 10240)
        assert degenerate(flat) == expected


def test_a_category_has_the_first_system_that_is_not_degenerate():
    dropped = 0
    for category in range(12):
        bits = bits_of(4, category)
        system, points = find_system(4, category)
        while True:
            candidate = random_system(bits)
            cloud = play(candidate, bits)
            if not degenerate(levels(cloud)):
                break
            dropped += 1
        np.testing.assert_array_equal(candidate.maps, system.maps)
        np.testing.assert_array_equal(cloud, points)
    assert dropped > 5


def test_views_are_all_different_and_the_first_go_round():
    turns = [attractors._turn(view) for view in range(1001)]
    degrees = [math.degrees(math.atan2(sine, cosine)) % 360 for cosine, sine in turns]
    np.testing.assert_allclose(degrees[:12], np.arange(0, 360, 30), atol=1e-9)
    np.testing.assert_allclose(degrees[12:24], np.arange(15, 360, 30), atol=1e-9)
    np.testing.assert_allclose(sorted(degrees[:96]), np.arange(0, 360, 3.75), atol=1e-9)
    assert np.diff(np.sort(degrees)).min() > 0.2
    np.testing.assert_allclose([math.hypot(*turn) for turn in turns], 1, atol=1e-12)


def test_a_point_is_drawn_where_it_is_seen():
    points = np.zeros((3, 3000), "int64") + 32768
    points[:, :1000] = [[65535], [32768], [32768]]  # right
    points[:, 1000:2000] = [[0], [32768], [32768]]  # left
    points[:, 2000:2500] = [[32768], [65535], [32768]]  # top
    points[:, 2500:] = [[32768], [0], [32768]]  # bottom
    _assert_seen(attractors.draw_view(points, (1.0, 0.0), 224), [(8, 112), (112, 8), (112, 215), (215, 112)])
    # By a quarter: right is in front now, and left behind.
    _assert_seen(attractors.draw_view(points, (0.0, 1.0), 224), [(8, 112), (112, 112), (215, 112)])


def _assert_seen(picture, expected):
    lit = np.argwhere(picture[:, :, 0])
    assert len(lit) == len(expected)
    assert all(abs(lit - place).max(axis=1).min() <= 1 for place in expected), lit


@pytest.mark.parametrize("size", [16, 32, 96, 224, 300])
def test_pictures_fill_the_frame_at_every_size(size):
    for category in range(6):
        for picture in draw_category(2, category, (0, 1), size):
            assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
            assert picture.max() == 255 and picture[0, 0].tolist() == picture[0, 0, :1].tolist() * 3
            lit = picture[:, :, 0] > 0
            assert 0.01 < lit.mean() < 0.9
            spans = [np.flatnonzero(lit.any(axis=axis)) for axis in (0, 1)]
            assert max(span[-1] - span[0] + 1 for span in spans) > 0.85 * size
            assert all(abs(span[0] + span[-1] + 1 - size) < 0.3 * size for span in spans)


def test_shapes_are_the_same_at_every_size():
    for category in range(4):
        large, small = (draw_category(2, category, [0], size)[0][:, :, 0].astype("float64") for size in (224, 32))
        shrunk = large.reshape(32, 7, 32, 7).mean(axis=(1, 3))
        np.testing.assert_allclose(small, shrunk * 255 / shrunk.max(), atol=0.51)


def test_two_views_of_a_category_are_more_alike_than_those_of_two():
    def looks(view):
        small = [draw_category(5, category, [view], 32)[0][:, :, 0] for category in range(50)]
        small = np.array(small, "float64").reshape(50, 16, 2, 16, 2).mean(axis=(2, 4)).reshape(50, -1)
        small -= small.mean(axis=1, keepdims=True)
        return small / np.linalg.norm(small, axis=1, keepdims=True)

    nearest = (looks(0) @ looks(1).T).argmax(axis=1)
    assert (nearest == np.arange(50)).mean() > 0.4  # by chance 0.02
