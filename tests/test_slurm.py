"""The batch files as they stand, on a real Slurm."""

import os
import re
import sys
import time

import pytest
from conftest import ROOT, script
from slurm_cluster import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.once]

BATCH = {name: str(ROOT / "slurm" / f"{name}.sbatch") for name in ("predict", "merge", "train", "shard")}


def test_an_array_with_a_task_that_is_begun_again_makes_the_table_of_one_machine(cluster, shared, tmp_path):
    (tmp_path / "scans").symlink_to(shared / "images")
    cluster.call(tmp_path, "bash", "-c", "find -L scans -type f > scans.list")
    # Few images at once and one thread, so that there is time to stop it.
    variables = {"HERBARIOGRAPH_MODELS": str(shared / "models"), "OPTIONS": "-b 4 -p 1 --top 2"}
    array = cluster.submit(tmp_path, "--array=1-4", "--cpus-per-task=1", BATCH["predict"], **variables)
    merging = cluster.submit(tmp_path, f"--dependency=afterok:{array}", BATCH["merge"], REPORT="report.html")
    part = tmp_path / "predictions.tsv.parts" / "part-000002.tsv"
    partial = part.with_name("part-000002.tsv.partial")
    wait_for(lambda: partial.exists() and partial.stat().st_size > 1500, 120)
    cluster.call(tmp_path, "scontrol", "requeue", f"{array}_2")
    cluster.wait(tmp_path, array)
    assert cluster.restarts(tmp_path, f"{array}_2") == 1
    log = (tmp_path / f"predict-{array}-2.log").read_text()
    assert re.search(r"^(\d+) of 35 images are done already\.$", log, re.MULTILINE), log
    assert "told to stop." in log and "35 images categorised, no errors." in log
    cluster.wait(tmp_path, merging)
    one = [*script("predictImages.py"), "--list", "scans.list", "-o", "one.tsv", *variables.pop("OPTIONS").split()]
    cluster.call(tmp_path, *one, "--report", "one.html", **variables)
    for ending in ("", ".settings.json"):
        assert (tmp_path / f"predictions.tsv{ending}").read_bytes() == (tmp_path / f"one.tsv{ending}").read_bytes()
    assert len((tmp_path / "one.tsv").read_text().splitlines()) == 1 + 140
    assert not os.path.exists(tmp_path / "predictions.tsv.errors.tsv")
    own = re.compile(r"Made [-0-9]+ [0-9:]+\.|(predictions|one)\.tsv|identity=\"\w+\"")
    page, expected = (own.sub("", (tmp_path / f"{name}.html").read_text()) for name in ("report", "one"))
    assert page == expected


def test_two_tasks_whose_job_is_begun_again_train_as_one_machine_does(cluster, tmp_path):
    from trainings import assert_same

    cluster.call(tmp_path, sys.executable, "-m", "lib.sample", "sample", "--count", "24", "--seed", "1")
    cluster.call(tmp_path, *script("imagesToTFR.py"), "-d", "sample", "-o", "s", "-s", "32", "--herbariograph")
    cluster.call(tmp_path, *script("convnext.py"), "-a", "17", "-i", "32", "-n", "1:1:1:1", "-x", "8", "-o", "m.keras")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    options = ["-a", "17", "-b", "8", "-c", "-e", "3", "-i", "32", "-m", "m.keras"]
    options += ["-t", "s-train.tfr", "-v", "s-validation.tfr"]
    where = ["--nodelist=" + cluster.host, "--ntasks-per-node=2", "--cpus-per-task=1"]
    job = cluster.submit(tmp_path, *where, BATCH["train"], "trainImagesC.py", *options, "-o", "two")
    wait_for(lambda: list(tmp_path.glob("two/*/training-state.npz")), 120, lambda: logs(tmp_path))
    time.sleep(0.3)  # within the next epoch
    cluster.call(tmp_path, "scontrol", "requeue", job)
    cluster.wait(tmp_path, job)
    assert cluster.restarts(tmp_path, job) == 1
    log = logs(tmp_path)
    stopped = re.search(r"^Stopped after (\d+) epochs and (\d+) steps; the same command goes on there\.$", log, re.M)
    assert stopped, log
    within = f" and {stopped[2]} steps" if stopped[2] != "0" else ""
    assert f"Going on after {stopped[1]} of at most 3 epochs{within}." in log
    cluster.call(tmp_path, *script("trainImagesC.py"), *options, "-o", "one")
    assert_same(tmp_path / "one", tmp_path / "two")


def logs(here):
    return "".join(path.read_text() for path in sorted(here.glob("*.log")))


def test_records_in_an_array_are_those_of_one_machine(cluster, tmp_path):
    cluster.call(tmp_path, sys.executable, "-m", "lib.sample", "sample", "--count", "4", "--seed", "1")
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
