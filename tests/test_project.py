"""The project's own rules: imports go down, scripts start at once, the documentation matches the options."""

import ast
import dataclasses
import importlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from lib.cli.program import Ignored

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))

# The order in which the parts of `lib` import each other: each from those before it only.
ORDER = (
    *("errors", "system", "storage", "measures", "display", "cli", "models", "data", "training"),
    *("soup", "evaluation", "prediction", "adaptation", "download"),
)
STAGES = ("soup", "evaluation", "prediction", "download")  # none of which knows another; adapting predicts
WITHOUT_TENSORFLOW = ("errors", "storage", "display", "cli", "adaptation", "download")
# Without the one that draws, whose functions take coordinates.
TOOLS = sorted(f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py") if path.name != "sample.py")
MODULES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "lib").rglob("*.py"))


def imports_of(path):
    """What a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def part_of(name):
    """The part of `lib` that a dotted name or a path belongs to; None for what is not of it."""
    parts = re.split(r"[./]", re.sub(r"\.py$", "", name))
    return parts[1] if parts[0] == "lib" and len(parts) > 1 else None


def test_every_part_has_its_place_in_the_order():
    assert {part_of(name) for name in MODULES} == {*ORDER, "__init__"}


@pytest.mark.parametrize("name", [name for name in MODULES if part_of(name) != "__init__"])
def test_imports_go_down_only(name):
    part = part_of(name)
    imported = imports_of(ROOT / name)
    for other in {part_of(each) for each in imported if part_of(each)}:
        assert ORDER.index(other) <= ORDER.index(part), other
        assert other == part or not {other, part} <= {*STAGES}, other
    assert "tools" not in {each.split(".")[0] for each in imported}
    if part in WITHOUT_TENSORFLOW:
        assert not {each.split(".")[0] for each in imported} & {"tensorflow", "keras"}


@pytest.mark.parametrize("path", sorted((ROOT / "lib").rglob("__init__.py")), ids=str)
def test_packages_are_empty(path):
    assert path.read_text() == ""


def test_nothing_in_lib_but_the_command_line_ends_the_process_or_reads_its_arguments():
    for name in MODULES:
        if part_of(name) != "cli":
            assert not re.search(r"sys\.(exit|argv)", (ROOT / name).read_text()), name


def functions_of(path):
    """The functions of a file: (name, code lines without the docstring, number of parameters)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documentation = node.body[0] if ast.get_docstring(node, clean=False) else None
            lines = node.end_lineno - node.lineno + 1
            if documentation:
                lines -= documentation.end_lineno - documentation.lineno + 1
            arguments = [argument.arg for argument in node.args.args + node.args.kwonlyargs]
            yield node.name, lines, len(set(arguments) - {"self", "cls"})


def test_functions_are_short_and_take_few_parameters():
    paths = [*SCRIPTS, *MODULES, *TOOLS]
    long = [(path, *found) for path in paths for found in functions_of(ROOT / path) if found[1] > 50 or found[2] > 7]
    assert long == []


def test_only_the_command_line_spells_options():
    for name in MODULES:
        if part_of(name) not in ("cli", "errors"):  # the latter shows one as an example
            assert not re.search(r"(?<![\w-])(--[a-z][a-z-]+|-\w/--)", (ROOT / name).read_text()), name


# Settings without an option.
WITHOUT_OPTION = {
    "trainImagesC.py": {"patience"},
    "distillOptimizeImagesR.py": {"patience"},
    "optimizeImagesR.py": {"tensorboard", "evaluate_first", "name"},  # there are many trainings
}


@pytest.mark.parametrize("name", sorted({*SCRIPTS} - {"trainImagesC4096.py"}))
def test_the_options_of_a_script_are_its_stages_settings(name):
    script = importlib.import_module(name[:-3])
    parser = script.options()
    actions = [action for action in parser._actions if action.dest != "help" and not isinstance(action, Ignored)]
    fields = {field.name: field.default for field in dataclasses.fields(script.Settings)}
    fields.pop("command", None)  # which is the whole command line
    assert {action.dest for action in actions} == {*fields} - WITHOUT_OPTION.get(name, set())
    for action in actions:
        default = None if fields[action.dest] is dataclasses.MISSING else fields[action.dest]
        assert action.default == default and type(action.default) is type(default), action.dest


def test_the_table_of_scripts_says_where_their_settings_and_stages_are():
    text, found = (ROOT / "docs" / "development.md").read_text(), set()
    for names, settings, stage, function in re.findall(
        r"^\| (`.+`) \| `(.+)` \| `(\S+)`, `(\w+)`.*\|$", text, re.MULTILINE
    ):
        for name in re.findall(r"`(\w+)\.py`", names):
            found.add(f"{name}.py")
            known = importlib.import_module(settings[:-3].replace("/", ".")).Settings
            script = importlib.import_module(name)
            assert getattr(script, "Settings", known) is known  # trainImagesC4096.py has those of trainImagesC.py
            assert callable(getattr(importlib.import_module(stage[:-3].replace("/", ".")), function))
    assert found == {*SCRIPTS}


# What takes so long to import that an answer to a wrong call would be late.
HEAVY = ("tensorflow", "keras", "numpy", "scipy", "sklearn", "matplotlib", "optuna", "PIL", "h5py", "jinja2", "aiohttp")


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(("call", "status"), [("--help", 0), ("--no-such-option", 2)])
def test_help_and_a_wrong_call_import_nothing_heavy(name, call, status):
    code = (
        f"import atexit, sys, {name[:-3]} as door\n"
        f"atexit.register(lambda: print('imported', *sorted({{*{HEAVY}}} & {{*sys.modules}}), file=sys.stderr))\n"
        f"door.main([{call!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (status, "imported"), done.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_run_and_imported(name):
    assert (ROOT / name).stat().st_mode & 0o111
    assert (ROOT / name).read_text().startswith("#!/usr/bin/env python3\n")
    assert len((ROOT / name).read_text().splitlines()) <= 130
    code = f"import sys, {name[:-3]}; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_dependency_has_its_reason():
    page = (ROOT / "docs" / "installation.md").read_text()
    for path in sorted(ROOT.glob("requirements*.txt")):
        for line in path.read_text().splitlines():
            if line and not line.startswith(("#", "-r ")):
                package = re.match(r"[\w-]+", line).group()
                assert re.search(rf"^\| {package} \|", page, re.MULTILINE), package
