"""The project's own rules: imports go down, scripts start at once, the documentation matches the options."""

import ast
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, script

import lib

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))

# What `lib`'s docstring says: floor -> modules, from the ground up.
FLOORS = {
    floor.lower(): re.findall(r"\w+", " ".join(re.findall(r"^    ([\w, ]+?)(?: - |$)", text, re.MULTILINE)))
    for floor, text in re.findall(r"^(Ground|Parts|Stages)\b.*:\n((?:    .*\n)+)", lib.__doc__, re.MULTILINE)
}


def imports_of(path):
    """What a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update([node.module] if node.module != "lib" else [f"lib.{alias.name}" for alias in node.names])
    return found


def test_every_module_has_a_floor():
    modules = {path.stem for path in (ROOT / "lib").glob("*.py")} - {"__init__"}
    assert list(FLOORS) == ["ground", "parts", "stages"]
    assert sorted(modules) == sorted(name for floor in FLOORS.values() for name in floor)


def test_imports_go_down_only():
    floors = list(FLOORS)
    for height, floor in enumerate(floors):
        above = {f"lib.{name}" for higher in floors[height + 1 :] for name in FLOORS[higher]}
        for name in FLOORS[floor]:
            imported = imports_of(ROOT / "lib" / f"{name}.py")
            assert not imported & above, name
            if floor == "stages":  # which don't know each other
                assert not imported & {f"lib.{other}" for other in FLOORS["stages"]}, name
            if floor == "ground":
                assert not {package.split(".")[0] for package in imported} & {"tensorflow", "keras", "numpy", "PIL"}


def test_nothing_in_lib_ends_the_process_or_reads_its_arguments():
    for path in (ROOT / "lib").glob("*.py"):
        assert not re.search(r"sys\.(exit|argv)", path.read_text()), path.name


def processor_time(command):
    """The seconds that a command computes for, the least of three runs; other work on the machine does not count."""
    found = []
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0  # it has been waited for
        found.append(usage.ru_utime + usage.ru_stime)
    return min(found)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_and_a_wrong_call_answer_at_once(name):
    assert processor_time([*script(name), "--help"]) < 0.3
    assert processor_time([*script(name), "--no-such-option"]) < 0.3


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_run_and_imported(name):
    assert (ROOT / name).stat().st_mode & 0o111
    assert (ROOT / name).read_text().startswith("#!/usr/bin/env python3\n")
    assert len((ROOT / name).read_text().splitlines()) <= 130
    code = f"import sys, {name[:-3]}; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_dependency_has_its_reason_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for name in ("requirements.txt", "requirements-tensorflow.txt", "requirements-test.txt", "requirements-lint.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith("#"):
                package = re.match(r"[\w-]+", line).group()
                assert re.search(rf"^\| {package} \|", readme, re.MULTILINE), package
