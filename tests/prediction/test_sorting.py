"""A folder for each category."""

import os
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.errors import UsageError, WorkError
from lib.prediction.sorting import INDEX, sort_images
from lib.storage.names import escape_name, unescape_name


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Six files in two folders, of which two have the same name; returns name -> category."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/3.jpg", "b/sub/1.JPG"):
        os.makedirs(os.path.dirname(f"scans/{name}"), exist_ok=True)
        with open(f"scans/{name}", "w") as file:
            file.write(name)
    os.symlink("3.jpg", "scans/b/link.jpg")
    names = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/3.jpg", "b/sub/1.JPG", "b/link.jpg")
    return {f"scans/{name}": "Text" if name == "b/3.jpg" else "Live" for name in names}


def tree(folder):
    """What is below a folder: path -> what a link says, or what is in a file."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                found[os.path.relpath(path, folder)] = "-> " + os.readlink(path)
            elif os.path.isfile(path):
                with open(path) as file:
                    found[os.path.relpath(path, folder)] = file.read()
    return found


def stamps(folder):
    return {name: os.lstat(os.path.join(folder, name)) for name in tree(folder)}


def test_links_are_relative_and_equal_names_do_not_clash(images):
    before = tree("scans")
    done = sort_images(images, "sorted")
    assert (done.made, done.unchanged, done.removed) == (6, 0, 0)
    found = tree("sorted")
    index = found.pop("sorted.tsv").splitlines()
    assert found == {
        "Live/1.jpg": "-> ../../scans/a/1.jpg",
        "Live/1~2.jpg": "-> ../../scans/b/1.jpg",
        "Live/1~3.JPG": "-> ../../scans/b/sub/1.JPG",  # as it would on a file system that takes 1.JPG for 1.jpg
        "Live/2.jpg": "-> ../../scans/a/2.jpg",
        "Live/link.jpg": "-> ../../scans/b/link.jpg",
        "Text/3.jpg": "-> ../../scans/b/3.jpg",
    }
    assert index[0] == "PLACE\tFILE" and "Live/1~2.jpg\tscans/b/1.jpg" in index and len(index) == 7
    os.rename("sorted", "scans/../elsewhere")  # links stay right as long as the distance is the same
    assert all(os.path.exists(f"elsewhere/{name}") for name in found)
    assert tree("scans") == before


@pytest.mark.parametrize("kind", ["link", "copy", "hardlink"])
def test_again_it_changes_nothing(images, kind):
    sort_images(images, "sorted", kind)
    before = stamps("sorted")
    done = sort_images(images, "sorted", kind)
    assert (done.made, done.unchanged, done.removed) == (0, 6, 0)
    after = stamps("sorted")
    del before["sorted.tsv"], after["sorted.tsv"]
    assert after == before


def test_copies_and_hard_links_and_back(images):
    before = tree("scans")
    sort_images(images, "sorted")
    sort_images(images, "sorted", "copy")
    assert not os.path.islink("sorted/Text/3.jpg") and os.stat("sorted/Text/3.jpg").st_nlink == 1
    assert tree("sorted")["Live/link.jpg"] == "b/3.jpg"
    sort_images(images, "sorted", "hardlink")
    assert os.path.samefile("sorted/Text/3.jpg", "scans/b/3.jpg") and not os.path.islink("sorted/Live/link.jpg")
    assert sort_images(images, "sorted").made == 6
    assert os.readlink("sorted/Text/3.jpg") == "../../scans/b/3.jpg" and tree("scans") == before
    assert len(tree("sorted")) == 7


def test_what_changed_is_sorted_anew(images):
    sort_images(images, "sorted")
    images["scans/b/3.jpg"] = "Live"
    images["scans/a/1.jpg"] = "Slide"
    os.unlink("scans/a/2.jpg")
    done = sort_images(images, "sorted")
    assert (done.made, done.unchanged, done.removed, done.missing) == (2, 3, 3, ["scans/a/2.jpg"])
    found = tree("sorted")
    del found["sorted.tsv"]
    assert set(found) == {"Slide/1.jpg", "Live/1~2.jpg", "Live/1~3.JPG", "Live/link.jpg", "Live/3.jpg"}
    assert not os.path.exists("sorted/Text")
    assert sort_images(images, "sorted").made == 0


def test_what_is_somebodys_stays(images):
    os.makedirs("sorted/Live")
    for name in ("sorted/Live/1.jpg", "sorted/notes.txt", "sorted/Live/notes.txt"):
        with open(name, "w") as file:
            file.write("mine")
    sort_images(images, "sorted", "copy")
    with open("sorted/Live/2.jpg", "a") as file:
        file.write(" edited")
    os.unlink("scans/b/3.jpg")  # its copies, one by way of a link, are the last ones
    images["scans/a/2.jpg"] = "Text"
    done = sort_images(images, "sorted", "copy")
    assert set(done.left) == {"Live/2.jpg", "Text/3.jpg", "Live/link.jpg"}
    found = tree("sorted")
    assert (
        found["Live/2.jpg"] == "a/2.jpg edited"
        and found["Text/3.jpg"] == "b/3.jpg"
        and found["Text/2.jpg"] == "a/2.jpg"
    )
    assert [found[name] for name in ("Live/1.jpg", "notes.txt", "Live/notes.txt")] == ["mine"] * 3


def test_a_killed_call_is_finished_by_the_next(images, monkeypatch):
    whole = sort_images(images, "whole")
    made = []
    link = os.symlink

    def dying(*arguments):
        made.append(arguments)
        if len(made) > 3:
            raise KeyboardInterrupt
        link(*arguments)

    monkeypatch.setattr(os, "symlink", dying)
    with pytest.raises(KeyboardInterrupt):
        sort_images(images, "sorted")
    monkeypatch.setattr(os, "symlink", link)
    images_now = dict(images, **{"scans/a/1.jpg": "Slide"})
    done = sort_images(images_now, "sorted")
    assert done.removed == 1 and done.made + done.unchanged == whole.made and len(tree("sorted")) == 7


@pytest.mark.parametrize(
    ("category", "folder"),
    [
        ("a/b", "a_b"),
        ("..", "_.."),
        ("", "_"),
        (".git", "_.git"),
        ("sorted.tsv", "_sorted.tsv"),
        ("a\nb", "a_nb"),
        ("ö ü", "ö ü"),
    ],
)
def test_any_category_becomes_one_folder_below(images, category, folder):
    sort_images(dict.fromkeys(images, category), "sorted")
    assert {path.split("/")[0] for path in tree("sorted")} == {folder, "sorted.tsv"}


def test_categories_whose_folders_would_be_one_get_two(images):
    names = list(images)
    sort_images({names[0]: "a/b", names[1]: "a_b", names[2]: "A_B"}, "sorted")
    assert sorted(os.listdir("sorted")) == ["A_B", "a_b~2", "a_b~3", "sorted.tsv"]


def test_names_of_any_bytes(images):
    name = b"scans/tab\t caf\xe9 \xff.jpg"
    long = b"scans/" + b"x" * 251 + b".jpg"
    also = b"scans/b/" + b"x" * 251 + b".jpg"
    for path in (name, long, also):
        with open(path, "w") as file:
            file.write("here")
    names = [escape_name(os.fsdecode(path)) for path in (name, long, also)]
    for _ in range(2):
        sort_images(dict.fromkeys(names, "Text"), "sorted")
        found = os.listdir(b"sorted/Text")
        assert len(found) == 3 and os.path.basename(name) in found
        assert all(os.path.exists(b"sorted/Text/" + entry) for entry in found)


@pytest.mark.parametrize("folder", ["scans", "scans/sorted", "scans/b/sub/x", "."])
def test_images_and_their_folders_are_kept_apart(images, folder):
    before = tree(".")
    with pytest.raises(UsageError, match="choose another DIR") as error:
        sort_images(images, folder, data="scans")
    assert error.value.setting == "sort" and tree(".") == before


def test_nothing_goes_where_images_are_searched_for(images):
    with pytest.raises(UsageError, match=r"is inside \."):
        sort_images(images, "sorted", data=".")


def test_a_folder_that_leads_elsewhere_is_refused(images):
    os.makedirs("sorted")
    os.makedirs("elsewhere")
    os.symlink("../elsewhere", "sorted/Live")
    with pytest.raises(UsageError, match="sorted/Live is a link or a file, not a folder"):
        sort_images(images, "sorted")
    assert os.listdir("elsewhere") == []
    os.unlink("sorted/Live")
    with open("sorted/sorted.tsv", "w") as file:
        file.write("PLACE\tFILE\n../elsewhere/x\tscans/a/1.jpg\n")
    with pytest.raises(UsageError, match=r"sorted\.tsv was not written by ⟦sort⟧"):
        sort_images(images, "sorted")


def test_what_cannot_be_written_is_an_error(images, monkeypatch):
    def refuse(*arguments):
        raise OSError(18, "Invalid cross-device link", arguments[0])

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(WorkError, match="not on the same disk as the images; use ⟦copy⟧"):
        sort_images(images, "sorted", "hardlink")


@settings(derandomize=True, database=None, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b"..")),
        st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=30),
        min_size=1,
        max_size=5,
    )
)
def test_images_of_any_name_are_sorted_into_folders_of_any_name(categories):
    with tempfile.TemporaryDirectory() as folder:
        data, sorted_ = os.path.join(folder, "data"), os.path.join(folder, "sorted")
        os.mkdir(data)
        found = {}
        for name, category in categories.items():
            path = os.path.join(data, os.fsdecode(name))
            with open(path, "wb"):
                found[escape_name(path)] = category * 20
        sort_images(found, sorted_)
        made = [os.path.join(parent, name) for parent, _, names in os.walk(sorted_) for name in names if name != INDEX]
        assert sorted(map(os.path.realpath, made)) == sorted(os.path.realpath(unescape_name(name)) for name in found)
        assert all(os.path.dirname(os.path.dirname(path)) == sorted_ for path in made)
        assert sort_images(found, sorted_).made == 0
        assert sorted(os.listdir(folder)) == ["data", "sorted"]


def test_names_whose_ending_is_longer_than_a_name_may_be(images):
    ending = "x" * 253
    for parent in ("a", "b"):
        with open(f"scans/{parent}/a.{ending}", "w"):
            pass
    assert sort_images({f"scans/{parent}/a.{ending}": "b." + "y" * 300 for parent in ("a", "b")}, "sorted").made == 2


@pytest.mark.parametrize("line", ["x/a", "x\ty", "../x\ty", "x/y/z\ta"])
def test_an_index_that_is_none(images, line):
    os.makedirs("sorted")
    with open("sorted/sorted.tsv", "w") as file:
        file.write(f"PLACE\tFILE\n{line}\n")
    with pytest.raises(UsageError, match=r"sorted\.tsv was not written by ⟦sort⟧"):
        sort_images(images, "sorted")
    os.unlink("sorted/sorted.tsv")
    assert sort_images(images, "sorted").made == 6
