"""What apptainer.def does is what the Dockerfile does, whose steps tests/test_dockerfile.py runs."""

import os
import re
import shutil
import subprocess

from conftest import ROOT
from test_dockerfile import instructions


def sections():
    """The definition's header and its sections, each a list of lines without comments."""
    found = {"header": []}
    name = "header"
    for line in (ROOT / "apptainer.def").read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            found[name] = []
        elif line.strip() and not line.startswith("#"):
            found[name].append(line.strip())
    return found


def test_it_builds_on_the_dockerfiles_image():
    assert sections()["header"] == ["Bootstrap: docker", f"From: {dict(instructions())['FROM']}"]
    assert list(sections()) == ["header", "files", "post", "environment", "runscript"]


def test_the_same_files_come_to_the_same_place():
    (home,) = (argument for keyword, argument in instructions() if argument.startswith("/opt/"))
    expected = set()
    for keyword, argument in instructions():
        if keyword == "COPY":
            *sources, target = argument.split()
            expected |= {(source, os.path.normpath(os.path.join(home, target))) for source in sources}
    ours = set()
    for line in sections()["files"]:
        source, target = line.split()
        assert target.endswith("/"), "a folder, into which it goes by its own name"
        ours.add((source, os.path.join(target, source) if (ROOT / source).is_dir() else os.path.dirname(target)))
    assert ours == expected
    assert all(list(ROOT.glob(source)) for source, _ in ours)


def test_the_same_command_installs_the_packages():
    here, install, *rest = sections()["post"]
    (home,) = (argument for keyword, argument in instructions() if argument.startswith("/opt/"))
    assert here == f"cd {home}"
    assert install in [argument for keyword, argument in instructions() if keyword == "RUN"]
    assert rest == [f"chmod -R a+rX {home}"]  # since root builds it and users run it


def test_scripts_are_found_and_packages_of_the_user_are_not(tmp_path):
    (path,) = re.findall(r'PATH="([^"]*)"', dict(instructions())["ENV"])
    text = "\n".join(sections()["environment"])
    assert f'export PATH="{path}"' in text
    text = text.replace("/opt/herbariograph", str(tmp_path))
    (tmp_path / "predictImages.py").write_text("#!/bin/sh\necho $PYTHONNOUSERSITE $1\n")
    (tmp_path / "predictImages.py").chmod(0o755)
    run = "\n".join([text, "set -- predictImages.py --help", *sections()["runscript"]])
    done = subprocess.run([shutil.which("sh"), "-euc", run], capture_output=True, text=True, check=True)
    assert done.stdout == "1 --help\n"
