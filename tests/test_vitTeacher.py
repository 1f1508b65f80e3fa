"""vitTeacher.py as its users call it: a teacher that this and any TensorFlow opens."""

import dataclasses
import os
import shutil
import subprocess

import numpy as np
import pytest
from conftest import FIXTURES, script

import vitTeacher
from lib.errors import UsageError, WorkError
from lib.models import teacher_files, torch_files
from lib.models.porting import NORMALIZATIONS, Settings, make_teacher
from lib.models.teacher_files import is_made_here, open_teacher
from lib.models.torch_files import Tensor, read_arrays

VIT = FIXTURES / "vit"


def run(here, *arguments):
    return subprocess.run([*script("vitTeacher.py"), *map(str, arguments)], capture_output=True, text=True, cwd=here)


@pytest.mark.slow
def test_the_teacher_answers_as_pytorch(tmp_path):
    done = run(tmp_path, "-c", VIT / "token.pth", "-o", "teacher", "--heads", "2", "--normalize", "none")
    assert done.returncode == 0, done.stderr
    numbers = sum(int(np.prod(tensor.shape)) for tensor in read_arrays(str(VIT / "token.pth")).values())
    assert done.stdout == f"teacher: 11 outputs, 32 x 32 pixels, {numbers:,} parameters\n"
    assert "patches of 8, width 24, 2 blocks, 2 heads, 11 outputs from the class token" in done.stderr
    known = np.load(VIT / "token.npz")
    teacher = open_teacher(str(tmp_path / "teacher"), 11, 32)
    logits = teacher(known["images"].transpose(0, 2, 3, 1) * 255)
    np.testing.assert_allclose(logits, known["logits"], atol=1e-3)
    again = run(tmp_path, "-c", VIT / "token.pth", "-o", "teacher")
    assert again.returncode == 2 and "teacher already exists; --overwrite replaces it" in again.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["teacher"]


def test_images_are_normalised_within(tmp_path):
    for name in ("imagenet", "none"):
        make_teacher(Settings(str(VIT / "mean.tar"), str(tmp_path / name), name, heads=3))
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 24, 24, 3)).astype("float32")
    mean, deviation = map(np.array, NORMALIZATIONS["imagenet"])
    normal = ((pixels / 255 - mean) / deviation * 255).astype("float32")
    inside, outside = (open_teacher(str(tmp_path / name), 5, 24) for name in ("imagenet", "none"))
    np.testing.assert_allclose(inside(pixels), outside(normal), atol=1e-3)


def test_it_appears_whole_and_replaces_only_its_own(tmp_path, monkeypatch):
    output = tmp_path / "teacher"
    given = Settings(str(VIT / "bare.pt"), str(output), heads=4)
    again = dataclasses.replace(given, overwrite=True)

    def broken(*arguments, **options):
        os.makedirs(arguments[1])
        raise KeyboardInterrupt

    def stop_before_the_new_one(source, target, rename=os.rename):
        if target == str(output) and not source.endswith("former"):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        import tensorflow as tf

        patch.setattr(tf.saved_model, "save", broken)
        with pytest.raises(KeyboardInterrupt):
            make_teacher(given)
    assert not list(tmp_path.iterdir())
    make_teacher(given)
    (output / "mark").touch()
    with monkeypatch.context() as patch:
        patch.setattr(teacher_files.os, "rename", stop_before_the_new_one)
        with pytest.raises(KeyboardInterrupt):
            make_teacher(again)
    assert (output / "mark").exists() and sorted(path.name for path in tmp_path.iterdir()) == ["teacher"]
    make_teacher(again)
    assert not (output / "mark").exists() and is_made_here(output)
    shutil.rmtree(output / "assets.extra")
    with pytest.raises(UsageError, match="teacher already exists; choose another one"):
        make_teacher(again)
    assert (output / "saved_model.pb").exists()


def test_no_numbers_and_no_room_are_one_sentence(tmp_path, monkeypatch):
    import tensorflow as tf

    def full(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    given = Settings(str(VIT / "bare.pt"), str(tmp_path / "teacher"), heads=4)
    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(WorkError, match=r"teacher can't be written \(No space left on device\)\."):
        make_teacher(given)
    arrays = read_arrays(str(VIT / "bare.pt"))
    arrays["norm.bias"] = Tensor((16,), lambda: np.full(16, np.nan, "float32"))
    monkeypatch.setattr(torch_files, "read_arrays", lambda *arguments: arrays)
    with pytest.raises(WorkError, match=r"bare.pt: norm.bias holds infinite or NaN values"):
        make_teacher(given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["-c", "none.pth"], 2, "-c/--checkpoint: 'none.pth' is not an existing file"),
        (["-c", "text.pth"], 2, "text.pth is not a whole checkpoint"),
        (["--heads", "5"], 2, "--heads: a width of 24 can't be divided evenly among 5 heads"),
        (["--heads", "0"], 2, "--heads"),
        (["--normalize", "some"], 2, "--normalize"),
        (["-o", "no/where"], 2, "-o/--output"),
        (["--key", "optimizer"], 2, "has no dictionary 'optimizer'"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, options, status, words):
    (tmp_path / "text.pth").write_text("no checkpoint")
    monkeypatch.chdir(tmp_path)
    try:
        ended = vitTeacher.main(["-c", str(VIT / "token.pth"), "-o", "teacher", *options])
    except SystemExit as error:
        ended = error.code
    out, err = capsys.readouterr()
    assert (ended, out, err.count("\n")) == (status, "", 1), err
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["text.pth"]
