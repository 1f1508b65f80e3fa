"""The whole chain: the README's lines run, whatever kills them, and chain.sh is the same chain."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, script
from documents import commands

from lib.models.keras_files import load_model

CHAIN = "The whole chain"
KILLS = 3

# What the README has -> what is run: sizes, epochs and data; and the same bits each time, to compare by.
SMALLER = (
    ("SIZE=224", "SIZE=32"),
    ("SIZE=96", "SIZE=32"),
    ("-n 3:3:9:3", "-n 1:1:1:1"),
    ("-x 96", "-x 8"),
    ("-a 21000", "-a 8"),
    ("-e 32", "-e 2 --deterministic"),
    ("-e 4096", "-e 3 --deterministic"),
    ("-b 256", "-b 32"),
    ("-m 3DOFDB21kViTB16-224-TF", "-m teacher.keras"),
    ("3D-OFDB-21k-224-train-microcosm.tfr", "fractals-train.tfr"),
    ("3D-OFDB-21k-224-test.tfr", "fractals-test.tfr"),
    ("herbariograph-96", "sample"),
    ("image-directory", "pictures/Ordinary"),
    ("-m ConvNeXt-N", '-m $DIR"/"$LAST"/soup-model.keras"'),
)


def readme_chain():
    """The README's chain as a text for bash."""
    return "\n".join(commands("README.md", CHAIN))


def smaller(text):
    """The chain with sizes, epochs and data that take a minute."""
    for published, ours in SMALLER:
        assert published in text, f"the README's chain has no {published} any more"
        text = text.replace(published, ours)
    return text


def bash(folder, text, **variables):
    """Start bash in a folder, in a process group of its own, with the commands that it begins written to `trace`."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "CUDA_VISIBLE_DEVICES": "-1",
        **variables,
    }
    with open(folder / "log", "a") as log:
        return subprocess.Popen(
            ["bash", "-euc", f"exec 9> trace; BASH_XTRACEFD=9; set -x\n{text}"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def begun(folder):
    """The stages that a chain has begun, in order."""
    trace = folder / "trace"
    return re.findall(r"^\+ \./(\w+)\.py", trace.read_text(), re.MULTILINE) if trace.exists() else []


def finish(folder, text):
    """Run a chain to its end; when each stage began and when the last one ended."""
    process, times = bash(folder, text), []
    while process.poll() is None:
        times += [time.monotonic()] * (len(begun(folder)) - len(times))
        time.sleep(0.02)
    assert process.returncode == 0, (folder / "log").read_text()[-3000:]
    return [*times, time.monotonic()]


def link_toolkit(folder):
    """Put the toolkit into a folder, as links."""
    folder.mkdir()
    for path in [*ROOT.glob("*.py"), *ROOT.glob("*.sh"), ROOT / "lib", ROOT / "tools", ROOT / "manual"]:
        (folder / path.name).symlink_to(path)


def make_data(folder):
    """Small data under the names that `smaller` puts into the chain."""
    for command in (
        [sys.executable, "-m", "tools.sample", "pictures", "--count", "6", "--seed", "1"],
        [*script("imagesToTFR.py"), "-d", "pictures", "-o", "sample", "-s", "32", "--herbariograph"],
        [*script("fractals.py"), "-n", "8", "-s", "32", "--views", "8", "-o", "fractals"],
        [*script("convnext.py"), "-a", "8", "-i", "32", "-n", "1:1:1:1", "-x", "8", "-r", "5", "-o", "teacher.keras"],
    ):
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr


def copy_data(source, folder):
    """What `make_data` made."""
    for path in source.iterdir():
        if path.is_symlink():  # of the toolkit
            continue
        if path.name == "pictures":
            shutil.copytree(path, folder / path.name)
        elif path.name == "teacher.keras" or path.name.startswith(("sample", "fractals")):
            shutil.copy2(path, folder)


def results(folder):
    """What a chain results in, bit for bit: the soup's weights, and the predictions."""
    (soup,) = (folder / "ConvNeXt").glob("*/soup-model.keras")
    table = (folder / "file.tsv").read_text()
    return [weight.tobytes() for weight in load_model(soup).get_weights()], table


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a chain that ran to its end, and when its stages began."""
    folder = tmp_path_factory.mktemp("chain") / "undisturbed"
    link_toolkit(folder)
    make_data(folder)
    return folder, finish(folder, smaller(readme_chain()))


@pytest.mark.slow
def test_the_lines_of_the_readme_run(undisturbed):
    folder, _ = undisturbed
    assert begun(folder) == [
        *("convnext", "distillOptimizeImagesR", "convnext", "convnextClassifier"),
        *("trainImagesC",) * 4,
        *("trainImagesC4096", "imageSoup", "testImages", "predictImages"),
    ]
    log = (folder / "log").read_text()
    assert re.search(r"^Test macro F1: [\d.]+%$", log, re.MULTILINE)
    assert len(list((folder / "ConvNeXt").glob("*/best-model.keras"))) == 6
    assert len((folder / "file.tsv").read_text().splitlines()) == 7


def killed_after(folder, text, index, delay):
    """Run a chain and kill it, seconds after a stage began; whether it was still running then."""
    (folder / "trace").unlink(missing_ok=True)
    process = bash(folder, text)
    while process.poll() is None and len(begun(folder)) <= index:
        time.sleep(0.02)
    time.sleep(delay)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() in (0, -signal.SIGKILL), (folder / "log").read_text()[-3000:]
    return process.returncode != 0


@pytest.mark.slow
@pytest.mark.once
def test_a_chain_that_is_killed_and_run_again_ends_the_same(undisturbed):
    calm, times = undisturbed
    folder = calm.parent / "killed"
    link_toolkit(folder)
    copy_data(calm, folder)
    text = smaller(readme_chain())
    lengths = np.diff(times)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    # At random moments, but of each stage's own time; in the stages' order, so that there is something left to kill.
    stages = sorted(draw.choices(range(len(lengths)), lengths, k=KILLS))
    for index in stages:
        delay = draw.uniform(0, lengths[index])
        while not killed_after(folder, text, index, delay):
            delay /= 2  # what was done before is done faster now: the chain had ended
    finish(folder, text)
    weights, table = results(folder)
    expected_weights, expected_table = results(calm)
    assert weights == expected_weights
    assert table == expected_table


@pytest.mark.slow
@pytest.mark.once
def test_the_demo_runs(tmp_path):
    small = {
        "COLLECTION": "3",
        "TAUGHT": "20",
        "AUDITED": "10",
        "PICTURES": "12",
        "FRACTALS": "8",
        "VIEWS": "4",
        "SIZE": "32",
        "FILTERS": "8",
        "BLOCKS": "1:1:1:1",
    }
    small.update(dict.fromkeys(("EPOCHS", "TEACHER_TRAINING", "TEACHER_EPOCHS"), "1"), QUANTITY_EPOCHS="3")
    done = bash(tmp_path, f"bash '{ROOT}/demo.sh' > said", DEMO="a demo", **small)
    assert done.wait() == 0, (tmp_path / "log").read_text()[-3000:]
    said = (tmp_path / "said").read_text()
    assert re.search(
        r"Test accuracy of the soup: \d+\.\d % \(by chance: 5\.9 %\)\n"
        r"The soup's gain in macro F1: [+-]\d+\.\d points \(95 % interval [+-]\d+\.\d to [+-]\d+\.\d\)\n",
        said,
    )
    assert re.search(r"Audited accuracy before: .*\nAudited accuracy after: ", said)
    for name in ("test.html", "predictions.html", "taught.html", "runs/chain.tsv"):
        assert f" a demo/{name}\n" in said and (tmp_path / "a demo" / name).exists()
    statuses = [line.split("\t")[3] for line in (tmp_path / "a demo" / "runs" / "chain.tsv").read_text().splitlines()]
    assert statuses == ["STATUS", *["0"] * 24]


# Stands for each script: notes its call, and leaves the files that the chain looks for.
STUB = """#!/bin/bash
printf '%s\\n' "${0##*/} $*" >> calls
n=$(wc -l < calls)
run=$(printf '%032x' "$n")
sleep 0.02
case $0 in
    *imageSoup.py) mkdir -p "$DIR/$run-best" && touch "$DIR/$run-best/soup-model.keras" ;;
    *distill*|*trainImages*)
        mkdir -p "$DIR/$run-best" "$DIR/$run-intermediate" && touch "$DIR/$run-best/best-model.keras" ;;
esac
"""


@pytest.fixture
def stubs(tmp_path):
    """A folder with chain.sh, stubs for all scripts, and what the published chain reads."""
    for path in ROOT.glob("*.py"):
        (tmp_path / path.name).write_text(STUB)
        (tmp_path / path.name).chmod(0o755)
    for name in ("lib", "tools", "manual"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("chain.sh", "stages.sh"):
        shutil.copy(ROOT / name, tmp_path)
    make_published(tmp_path)
    return tmp_path


def make_published(folder):
    """Make files under the names that the published chain reads."""
    for name in ("3DOFDB21kViTB16-224-TF", "image-directory"):
        (folder / name).mkdir()
    (folder / "3DOFDB21kViTB16-224-TF" / "saved_model.pb").touch()
    for part in ("train", "validation", "test"):
        (folder / f"herbariograph-96-{part}.tfr").touch()
    for name in ("3D-OFDB-21k-224-train-microcosm.tfr", "3D-OFDB-21k-224-test.tfr"):
        (folder / name).touch()


def calls(folder):
    """What the stubs were called with; the file is removed."""
    lines = [re.sub(r"/+", "/", line) for line in (folder / "calls").read_text().splitlines()]
    (folder / "calls").unlink()
    return [line.split() for line in lines]


def options_of(call):
    """The options of a call with their values, in any order; folders without a slash at their end."""
    return sorted(word.rstrip("/") for word in re.findall(r"(?<= )-\S+(?: (?!-)\S+)?", " ".join(call)))


def test_chain_sh_runs_the_lines_of_the_readme(stubs):
    assert bash(stubs, readme_chain(), DIR="ConvNeXt").wait() == 0, (stubs / "log").read_text()
    expected = calls(stubs)
    subprocess.run(["rm", "-r", "ConvNeXt"], cwd=stubs, check=True)
    done = bash(stubs, "bash chain.sh", DIR="ConvNeXt")
    assert done.wait() == 0, (stubs / "log").read_text()
    found = calls(stubs)
    assert len(expected) == 12
    manual = str(stubs / "manual")
    for ours, readme in zip(found, expected):
        ours = [word.replace(manual, "manual") for word in ours]
        assert ours[0] == readme[0] and options_of(ours) == options_of(readme)
    assert len(found) == len(expected)
    logged = (stubs / "ConvNeXt" / "chain.tsv").read_text().splitlines()
    assert logged[0].split("\t") == ["STARTED", "SECONDS", "PEAK_MIB", "STATUS", "COMMAND"]
    assert [line.split("\t")[3] for line in logged[1:]] == ["0"] * 12


def test_settings_of_chain_sh_come_from_the_environment(stubs):
    variables = {"DIR": "runs", "EPOCHS": "7", "TRAINING_OPTIONS": "--deterministic"}
    variables.update(PREDICTOR="soup", PREDICTION_OPTIONS="--top 3")
    assert bash(stubs, "./chain.sh", **variables).wait() == 0, (stubs / "log").read_text()
    found = calls(stubs)
    trained = [call for call in found if "trainImagesC" in call[0]]
    assert len(trained) == 5 and all(call[call.index("-e") + 1] == "7" for call in trained)
    assert sum("--deterministic" in call for call in found) == 6
    assert found[-1][-2:] == ["--top", "3"] and re.search(
        "runs/[0-9a-f]{32}-best/soup-model.keras", " ".join(found[-1])
    )


def test_chain_sh_is_called_from_another_folder_and_by_a_link(stubs):
    folder = stubs / "a folder"
    folder.mkdir()
    make_published(folder)
    (folder / "link").symlink_to(stubs / "chain.sh")
    assert bash(folder, "./link", DIR="my runs", CDPATH="/").wait() == 0, (folder / "log").read_text()
    assert len(calls(folder)) == 12 and (folder / "my runs" / "chain.tsv").exists()
    assert not (stubs / "my runs").exists()


@pytest.mark.parametrize("name", ["image-directory", "3DOFDB21kViTB16-224-TF", "herbariograph-96-test.tfr"])
def test_what_a_chain_lacks_is_told_before_it_begins(stubs, name):
    (stubs / name).rename(stubs / "elsewhere")
    assert bash(stubs, "./chain.sh").wait() == 2
    setting = {"i": "UNKNOWN", "3": "TEACHER", "h": "TEST"}[name[0]]
    assert re.fullmatch(rf"chain\.sh: {setting}: '{name}' is .*\n", (stubs / "log").read_text())
    assert not (stubs / "calls").exists()


def test_a_predictor_that_is_none_is_told_before_it_begins(stubs):
    assert bash(stubs, "./chain.sh", PREDICTOR="none.keras").wait() == 2
    assert re.fullmatch(r"chain\.sh: PREDICTOR: .*'none\.keras' is neither .*\n", (stubs / "log").read_text())
    assert not (stubs / "calls").exists()


def test_chain_sh_tells_its_settings_and_takes_no_arguments(stubs):
    assert bash(stubs, "./chain.sh --help").wait() == 0
    told = (stubs / "log").read_text()
    for setting in ("EPOCHS=4096", "TILE=60", "TEST=herbariograph-96-test.tfr"):
        assert setting in told
    assert bash(stubs, "./chain.sh EPOCHS=7").wait() == 2
    assert "EPOCHS=7 is not understood; settings come from the environment" in (stubs / "log").read_text()
    assert not (stubs / "calls").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_to_chain_sh_ends_its_stage_and_leaves_nothing_running(stubs, number, status):
    (stubs / "distillOptimizeImagesR.py").write_text("#!/bin/bash\necho $$ > stage\nexec sleep 60\n")
    process = bash(stubs, "exec ./chain.sh", DIR="runs")
    while not (stubs / "stage").exists() or not (stubs / "stage").read_text():
        assert process.poll() is None, (stubs / "log").read_text()
        time.sleep(0.02)
    stage = int((stubs / "stage").read_text())
    if number == signal.SIGINT:  # as a terminal sends it
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(10) == status
    with pytest.raises(ProcessLookupError):
        os.kill(stage, 0)
    last = (stubs / "runs" / "chain.tsv").read_text().splitlines()[-1].split("\t")
    assert last[3] == str(status) and "distillOptimizeImagesR.py" in last[4]


def test_a_stage_that_fails_ends_the_chain_and_is_logged(stubs):
    (stubs / "convnextClassifier.py").write_text("#!/bin/bash\nexit 3\n")
    assert bash(stubs, "./chain.sh", DIR="runs").wait() == 3
    assert not any("trainImagesC" in call[0] for call in calls(stubs))
    last = (stubs / "runs" / "chain.tsv").read_text().splitlines()[-1].split("\t")
    assert last[3] == "3" and "/convnextClassifier.py -e " in last[4]
