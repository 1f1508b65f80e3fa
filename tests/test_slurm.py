"""The batch files as they stand, on a real Slurm."""

import os
import re
import sys
import time

import pytest
import trainings
from conftest import ROOT, script
from documents import blocks
from journals import entries_in
from slurm_cluster import wait_for
from toys import SIZE, linear_teacher, write_model, write_records, write_saved_model

from lib.storage.journal import Journal
from lib.training.hyperparameters import Hyperparameters, Row, write_log

pytestmark = [pytest.mark.slow, pytest.mark.once]

BATCH = {name: str(ROOT / "slurm" / f"{name}.sbatch") for name in ("predict", "merge", "train", "shard")}


def test_the_three_commands_of_the_page_make_the_table_of_one_machine(cluster, shared, tmp_path):
    (tmp_path / "scans").symlink_to(shared / "images")
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    listing, array, merge = blocks("docs/cluster.md", "From ten million scans to one table")[0].splitlines()
    assert "--array=1-100 " in array
    # Few images at once and one thread, so that there is time to stop it.
    options = "-b 4 -p 1 --top 2"
    variables = {
        "HERBARIOGRAPH_MODELS": str(shared / "models"),
        "OPTIONS": options,
        "REPORT": "report.html",
        "FEATURES": "yes",
    }
    cluster.call(tmp_path, "bash", "-c", listing)
    said = cluster.call(tmp_path, "bash", "-c", array.replace("1-100", "1-4 --cpus-per-task=1"), **variables)
    job = said.split()[-1]
    merging = cluster.call(tmp_path, "bash", "-c", merge.replace("JOB", job), **variables).split()[-1]
    # One task is told that its time is over, another one is taken from its node.
    disturbed = {2: ["scontrol", "requeue"], 3: ["scancel", "--batch", "--signal=USR1"]}
    while disturbed:
        wait_for(lambda: any(begun(tmp_path, task) for task in disturbed), 120, lambda: logs(tmp_path))
        task = next(task for task in disturbed if begun(tmp_path, task))
        cluster.call(tmp_path, *disturbed.pop(task), f"{job}_{task}")
    cluster.wait(tmp_path, job)
    for task in (2, 3):
        assert cluster.restarts(tmp_path, f"{job}_{task}") == 1
        log = (tmp_path / f"predict-{job}-{task}.log").read_text()
        assert re.search(r"^(\d+) of 35 images are already done\.$", log, re.MULTILINE), log
        assert "stopped by SIGTERM." in log and "35 images categorised, no errors." in log
    cluster.wait(tmp_path, merging)
    one = [*script("predictImages.py"), "--list", "scans.list", "-o", "one.tsv", "--report", "one.html"]
    cluster.call(tmp_path, *one, *options.split(), **variables)
    for ending in ("", ".settings.json", ".features.npz"):
        assert (tmp_path / f"predictions.tsv{ending}").read_bytes() == (tmp_path / f"one.tsv{ending}").read_bytes()
    assert len((tmp_path / "one.tsv").read_text().splitlines()) == 1 + 140
    assert not os.path.exists(tmp_path / "predictions.tsv.errors.tsv")
    own = re.compile(r"Made [-0-9]+ [0-9:]+\.|(predictions|one)\.tsv|identity=\"\w+\"|\"stem\": \"\w+\"")
    page, expected = (own.sub("", (tmp_path / f"{name}.html").read_text()) for name in ("report", "one"))
    assert page == expected


def begun(here, task):
    """Whether a task of the array has written rows."""
    return entries_in(here / "predictions.tsv.parts" / f"part-{task:06}.tsv.partial") > 0


def test_two_tasks_whose_job_is_begun_again_train_as_one_machine_does(cluster, tmp_path):
    cluster.call(tmp_path, sys.executable, "-m", "tools.sample", "sample", "--count", "48", "--seed", "1")
    cluster.call(tmp_path, *script("imagesToTFR.py"), "-d", "sample", "-o", "s", "-s", "32", "--herbariograph")
    cluster.call(tmp_path, *script("convnext.py"), "-a", "17", "-i", "32", "-n", "1:1:1:1", "-x", "8", "-o", "m.keras")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    options = ["-a", "17", "-b", "8", "-e", "3", "-i", "32", "-l", "0.001", "-m", "m.keras", "-Q"]
    options += ["-t", "s-train.tfr", "-v", "s-validation.tfr", "-c"]
    job = cluster.submit(tmp_path, *two_tasks(cluster), BATCH["train"], "trainImagesC.py", *options, "-o", "two")
    stop_within_an_epoch(cluster, tmp_path, "scancel", "--batch", "--signal=USR1", job)  # as before its time limit
    wait_for(lambda: cluster.restarts(tmp_path, job) == 1, 60, lambda: logs(tmp_path))
    stop_within_an_epoch(cluster, tmp_path, "scontrol", "requeue", job)
    cluster.wait(tmp_path, job)
    assert cluster.restarts(tmp_path, job) == 2
    log = logs(tmp_path)
    stops = re.findall(r"^Stopped after (\d+) epochs? and (\d+) steps; the same command resumes there\.$", log, re.M)
    assert len(stops) == 2 and all(int(steps) for _, steps in stops), log
    for epochs, steps in stops:
        assert f"Resuming after {epochs} of at most 3 epochs and {steps} steps." in log
    cluster.call(tmp_path, *script("trainImagesC.py"), *options, "-o", "one")
    trainings.assert_same(tmp_path / "one", tmp_path / "two")

    for folder in ("parts", "whole"):
        (tmp_path / folder).mkdir()
    (models,) = tmp_path.glob("one/*-intermediate")
    soup = [
        "imageSoup.py",
        "-a",
        "17",
        "-c",
        "-d",
        "s-train.tfr",
        "-m",
        str(models),
        "-T",
        "1",
        "-v",
        "s-validation.tfr",
    ]
    soup += ["--rescore", "-o"]
    array = cluster.submit(tmp_path, "--array=1-2", "--cpus-per-task=1", BATCH["shard"], *soup, "parts")
    cluster.wait(tmp_path, array)
    scored = []
    for path in tmp_path.glob("parts/*/soup-journal-*-of-00002.sqlite"):
        with Journal(str(path), "soup", {}) as part:
            scored.append(len(part))
    assert sorted(scored) == [1, 2], "the parts have scored each model once"
    cluster.call(tmp_path, *script(soup[0]), *soup[1:], "parts")
    cluster.call(tmp_path, *script(soup[0]), *soup[1:], "whole")
    found = [[path.read_bytes() for path in tmp_path.glob(f"{name}/*/soup-log.tsv")] for name in ("parts", "whole")]
    assert len(found[0]) == 1 and found[0] == found[1]


def test_a_task_that_fails_ends_the_others(cluster, tmp_path):
    for name in ("m.keras", "t.tfr", "v.tfr"):
        (tmp_path / name).touch()
    (tmp_path / "python").write_text("[ $SLURM_PROCID = 1 ] && exit 2\nexec sleep 600\n")
    options = ["trainImagesC.py", "-a", "3", "-m", "m.keras", "-o", ".", "-t", "t.tfr", "-v", "v.tfr"]
    # Called by its path, PYTHON being what the batch file runs the tasks with.
    batch = f"PYTHON='bash python' WAIT=1 bash {BATCH['train']} {' '.join(options)}"
    job = cluster.submit(tmp_path, *two_tasks(cluster), "--wrap", batch)
    wait_for(lambda: set(cluster.states(tmp_path, job).values()) == {"FAILED"}, 60, lambda: logs(tmp_path))
    assert cluster.restarts(tmp_path, job) == 0


def test_some_of_an_arrays_tasks_want_to_know_of_how_many(cluster, tmp_path):
    job = cluster.submit(tmp_path, "--array=2,4", BATCH["predict"])
    wait_for(lambda: set(cluster.states(tmp_path, job).values()) == {"FAILED"}, 60, lambda: logs(tmp_path))
    assert "say of how many with PARTS=N." in logs(tmp_path)


def two_tasks(cluster):
    """What asks for two tasks on the node whose name leads to this machine."""
    return ["--nodelist=" + cluster.host, "--ntasks-per-node=2", "--cpus-per-task=1"]


def stop_within_an_epoch(cluster, here, *command):
    """Wait until a training that is begun (again) has ended an epoch, and call that command."""

    def state():
        return max((path.stat().st_mtime_ns for path in here.glob("two/*/training-state.npz")), default=None)

    before = state()
    wait_for(lambda: state() != before, 120, lambda: logs(here))
    time.sleep(1.0)  # within the next epoch, which takes several seconds
    cluster.call(here, *command)


def test_two_tasks_distil_as_one_machine_does(cluster, tmp_path):
    write_model(tmp_path / "student.keras")
    write_saved_model(tmp_path / "teacher", linear_teacher())
    write_records(tmp_path / "train.tfr", 200, 1)
    write_records(tmp_path / "validation.tfr", 50, 2)
    (tmp_path / "log").mkdir()
    write_log(tmp_path / "log", [Row("0", Hyperparameters(batch_power=3), 0.5)])
    options = ["-c", "-a", "3", "-i", str(SIZE), "-S", str(SIZE), "-m", "teacher", "-l", "log", "-s", "student.keras"]
    options += ["-t", "train.tfr", "-v", "validation.tfr", "-e", "2"]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    job = cluster.submit(
        tmp_path, *two_tasks(cluster), BATCH["train"], "distillOptimizeImagesR.py", *options, "-o", "two"
    )
    cluster.call(tmp_path, *script("distillOptimizeImagesR.py"), *options, "-o", "one")
    cluster.wait(tmp_path, job)
    trainings.assert_same(tmp_path / "one", tmp_path / "two")


def logs(here):
    return "".join(path.read_text() for path in sorted(here.glob("*.log")))


def test_records_in_an_array_are_those_of_one_machine(cluster, tmp_path):
    cluster.call(tmp_path, sys.executable, "-m", "tools.sample", "sample", "--count", "4", "--seed", "1")
    for folder in ("one", "parts"):
        (tmp_path / folder).mkdir()
    records = ["imagesToTFR.py", "-d", "sample", "-s", "32", "--herbariograph", "-o"]
    array = cluster.submit(tmp_path, "--array=1-3", "--cpus-per-task=1", BATCH["shard"], *records, "parts/s")
    last = f"{sys.executable} {ROOT}/{' '.join(records)} parts/s --merge 3"
    merging = cluster.submit(tmp_path, f"--dependency=afterok:{array}", "--wrap", last)
    cluster.wait(tmp_path, merging)
    cluster.call(tmp_path, *script(records[0]), *records[1:], "one/s")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "s-train.tfr" in names and names == sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes() for name in names)
