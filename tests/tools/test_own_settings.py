"""The check of own.sh's settings."""

import subprocess
import sys

import pytest
from conftest import ROOT

from lib.data.categories import Category, read_categories, write_categories
from tools import own_settings

DEFAULTS = (
    "OWN=own SEED=1 SHARES=0.7:0.15:0.15 SIZE=96 ENCODER=any.keras HEAD_EPOCHS=60 EPOCHS=60 RATE=0.0005 BATCH=32 "
    "AUGMENT=small KEEP=12"
)
RIGHT = dict(pair.split("=") for pair in DEFAULTS.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: a collection of two categories, one of none, an encoder, and where own.sh writes."""
    monkeypatch.chdir(tmp_path)
    for name in ("fern", "moss"):
        (tmp_path / "collection" / name).mkdir(parents=True)
        (tmp_path / "collection" / name / "a.jpg").touch()
    (tmp_path / "any.keras").touch()
    (tmp_path / "own").mkdir()
    (tmp_path / "empty" / "fern").mkdir(parents=True)
    return tmp_path


def call(data="collection", **changes):
    return [data, *(f"{name}={value}" for name, value in {**RIGHT, **changes}.items())]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"OWN": "any.keras"}, "OWN: 'any.keras' is not a folder."),
        ({"SEED": "-1"}, "SEED: '-1' is not a whole number from 0 to 4294967296."),
        ({"SHARES": "1:2"}, "SHARES: '1:2' is neither counts such as 1024:128:128 nor shares such as 0.8:0.1:0.1."),
        ({"SHARES": "8:2:0"}, "SHARES: '8:2:0' gives no images to test, which needs some."),
        ({"SIZE": "9000"}, "SIZE: '9000' is not a whole number from 4 to 8192."),
        ({"HEAD_EPOCHS": "0"}, "HEAD_EPOCHS: '0' is not a whole number of 1 or more."),
        ({"EPOCHS": "1"}, "EPOCHS: '1' leaves one model, and a soup needs two."),
        ({"RATE": "1"}, "RATE: '1' is not a number between 0 and 1."),
        ({"BATCH": "010"}, "BATCH: '010' has to be written as 10."),
        ({"AUGMENT": "small,blur=3"}, "AUGMENT: gives 'blur' the value 3.0, not a number from 0 to 1."),
        ({"KEEP": "x"}, "KEEP: 'x' is not a whole number of 1 or more."),
        ({"data": "empty"}, "DATA: empty has no subfolders with images, one per category: fern (empty)."),
    ],
)
def test_each_setting_is_checked(folder, capsys, changes, said):
    assert own_settings.main(call(**changes)) == 2
    assert capsys.readouterr() == ("", f"own.sh: {said}\n")


def test_one_category_is_too_few(folder, capsys):
    (folder / "collection" / "moss" / "a.jpg").unlink()
    assert own_settings.main(call()) == 2
    said = "DATA: collection has images in one subfolder only, fern, and a model needs two categories or more."
    assert capsys.readouterr().err == f"own.sh: {said}\n"


def test_categories_are_numbered_anew_only_where_the_folders_are_others(folder, capsys):
    table = folder / "own" / "records-categories.tsv"
    former = (Category(0, "A fern", "fern"), Category(1, "moss", "moss"))
    write_categories(table, former)
    assert own_settings.main(call()) == 0
    assert capsys.readouterr() == ("any.keras\n", "") and read_categories(table) == former
    (folder / "collection" / "moss").rename(folder / "collection" / "palm")
    assert own_settings.main(call(EPOCHS="x")) == 2 and table.exists()  # nothing is begun
    assert own_settings.main(call()) == 0 and not table.exists()
    assert "own/records-categories.tsv: they are numbered anew." in capsys.readouterr().err
    for names in (("fern",), ("fern", "moss", "palm")):  # one is added, one is removed
        write_categories(table, [Category(index, name, name) for index, name in enumerate(names)])
        assert own_settings.main(call()) == 0 and not table.exists()


def test_tensorflow_is_not_loaded(folder):
    code = "import sys; from tools.own_settings import main; main(sys.argv[1:]); sys.exit('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *call()], env={"PYTHONPATH": str(ROOT)}, cwd=folder)
    assert done.returncode == 0
