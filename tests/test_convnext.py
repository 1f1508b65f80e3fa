"""convnext.py as its users call it."""

import shutil
import subprocess

import pytest
from conftest import run_here, script

from lib.models.keras_files import load_model

TINY = ["-a", "5", "-n", "1:1:1:1", "-x", "8", "-i", "32"]


def run(*arguments, **options):
    return subprocess.run([*script("convnext.py"), *arguments], capture_output=True, text=True, **options)


def test_one_line_says_what_was_made_and_the_summary_goes_to_stderr_if_wanted(tmp_path):
    assert run_here("convnext.py", tmp_path, *TINY, "-o", "a.keras").stderr == ""
    done = run_here("convnext.py", tmp_path, *TINY, "--verbose", "-o", "a.keras")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a.keras: 58,477 parameters, 204,544 multiply-adds for an image of 32 x 32\n"
    assert "convNeXt3_block0_add" in done.stderr and "58,477" in done.stderr
    model = load_model(tmp_path / "a.keras", 5)
    assert model.image_size == 32
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]


@pytest.mark.slow
def test_every_run_gives_the_same_bytes(tmp_path, environment):
    for name in ("a", "b"):
        options = ["-c", "-s", "-g", "-l", "-m", "-p", "7", "-f", "swish", "-r", "4294967296"]
        assert run(*TINY, *options, "-o", tmp_path / f"{name}.keras", env=environment).returncode == 0
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["-n", "3:3:9"], ["-n/--next", "3:3:9:3"]),
        (["-n", "3:3:100:30"], ["-n/--next", "120 blocks"]),
        (["-a", "9" * 30], ["-a/--array", "to 1000000"]),
        (["-n", "3:3:0:3"], ["-n/--next", "1 or more"]),
        (["-n", "3:3:9:x"], ["-n/--next"]),
        (["-x", "0"], ["-x/--filters", "from 1"]),
        (["-a", "-1"], ["-a/--array", "from 1"]),
        (["-b", "0"], ["-b/--bands"]),
        (["-e", "0"], ["-e/--expansion"]),
        (["-i", "3"], ["-i/--input", "from 4"]),
        (["-p", "0"], ["-p/--polish"]),
        (["-f", "tanh"], ["-f/--function", "gelu"]),
        (["-r", "5e9"], ["-r/--random", "4294967296"]),
        (["-r", "5000000000"], ["-r/--random", "4294967296"]),
        (["-o", "nowhere/a.keras"], ["-o/--output", "nowhere"]),
        (["-o", "a.h5"], ["-o/--output", ".keras"]),
        (["--plot", "a.jpg"], ["--plot", ".svg"]),
        (["--plot", "nowhere/a.svg"], ["--plot"]),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(wrong, words, tmp_path):
    done = run_here("convnext.py", tmp_path, *TINY, "-o", "a.keras", *wrong)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["-a", "-o"])
def test_what_is_required_is_named(missing, tmp_path):
    given = {"-a": ["-a", "5"], "-o": ["-o", str(tmp_path / "a.keras")]}
    words = [word for option, words in given.items() if option != missing for word in words]
    done = run_here("convnext.py", tmp_path, *words)
    assert done.returncode == 2 and missing in done.stderr


@pytest.mark.once
@pytest.mark.slow
def test_a_model_larger_than_the_memory_is_one_line(tmp_path):
    done = run("-a", "5", "-x", "1000000", "-e", "1000000", "-o", "a.keras", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and "memory" in done.stderr
    assert not list(tmp_path.iterdir())


def test_plotting_needs_graphviz(tmp_path, environment):
    done = run(*TINY, "-o", "a.keras", "--plot", "a.png", cwd=tmp_path, env=dict(environment, PATH=""))
    assert done.returncode == 2 and "Graphviz" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["png", "svg"])
@pytest.mark.slow
def test_the_plot_shows_each_kind_of_layer(ending, tmp_path):
    if shutil.which("dot") is None:
        pytest.skip("needs Graphviz's dot")
    path = tmp_path / f"a.{ending}"
    done = run_here("convnext.py", tmp_path, *TINY, "-c", "-o", tmp_path / "a.keras", "--plot", path)
    assert done.returncode == 0, done.stderr
    if ending == "png":
        assert path.read_bytes().startswith(b"\x89PNG")
    else:
        text = path.read_text()
        for word in ("rescale", "5x5_dconv2D", "squeezeExcite_gap", "output_dense", "Stage 3"):
            assert word in text, word


@pytest.mark.slow
def test_a_graphviz_that_fails_is_one_line_and_leaves_nothing(tmp_path, environment):
    broken = tmp_path / "bin" / "dot"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    path = f"{broken.parent}:{environment['PATH']}"
    done = run(*TINY, "-o", "a.keras", "--plot", "a.svg", cwd=tmp_path, env=dict(environment, PATH=path))
    assert done.returncode == 1 and "Graphviz's dot failed" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_a_full_disk_is_one_line_and_leaves_the_former_model(tmp_path, environment, monkeypatch):
    from lib.models import keras_files
    from lib.models.architecture import Architecture
    from lib.models.convnext import convnext

    model = convnext(Architecture(categories=5, filters=8, blocks=(1, 1, 1, 1)))
    (tmp_path / "a.keras").write_bytes(b"former")
    monkeypatch.setattr(keras_files.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 1 << 20))
    with pytest.raises(OSError, match="No space left on device") as error:
        keras_files.save_model(model, tmp_path / "a.keras")
    assert error.value.filename == str(tmp_path / "a.keras")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.keras", b"former")]
