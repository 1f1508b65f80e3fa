"""Which images a call has to do with."""

import os
import tracemalloc

import pytest

from lib.data import list_files, listing
from lib.data.left_out import LeftOut
from lib.data.listing import Paths, find_images, is_image_name, list_images, of_file, of_folder
from lib.errors import UsageError
from lib.system.shard import Shard


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "b.JPG", "c.JpEg", "d.tif", "e.TIFF", "f.webp", "g.jp2", "h.gif", "i.PNG", "j.HEIC", "k.avif", "l.CR2"],
)
def test_endings_count_in_any_case(name):
    assert is_image_name(name)
    assert not is_image_name(name + ".txt")
    assert not is_image_name(name.split(".")[1])


@pytest.mark.parametrize("name", ["", "jpg", ".jpg", "..jpg", "x/.jpg", "x/..jpg", "a.jpg/b", "a.jpg/.png"])
def test_names_without_an_ending(name):
    assert os.path.splitext(name)[1] == "" and not is_image_name(name)


@pytest.mark.parametrize("name", ["a..jpg", "x/a..jpg", "x.y/a.jpg", ".a.jpg", "..a.jpg"])
def test_names_with_several_points(name):
    assert os.path.splitext(name)[1] == ".jpg" and is_image_name(name)


@pytest.mark.parametrize("block", [7, 64, 1 << 20])
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_list_gives_each_path_to_one_part(tmp_path, monkeypatch, shuffled, block):
    monkeypatch.setattr(list_files, "_BLOCK", block)
    names = [b"s/%03d.jpg" % number for number in range(50)] + [b"s/caf\xe9.jpg", b"s/a b\t.TIF"]
    lines = sorted(names, key=(lambda name: name[::-1]) if shuffled else None)
    (tmp_path / "list").write_bytes(b"\n".join([*lines[:7], b" ", *lines[7:]]) + b"\n\n")
    found = [of_file(str(tmp_path / "list"), Shard(number, 5)) for number in range(1, 6)]
    assert [path for part in found for path in part.paths] == sorted(names)
    assert [part.first for part in found] == [0, 10, 20, 31, 41]
    assert len({str(part.about) for part in found}) == 1
    assert found[0].about == of_folder(sorted(names), {}).about


def test_what_can_not_be_used_belongs_to_one_part():
    paths, problems = [b"a.jpg", b"c.jpg", b"d.jpg", b"folder.jpg"], {b"b": "no", b"folder.jpg": "no", b"x": "no"}
    found = [of_folder(Paths(paths), problems, Shard(number, 3)) for number in (1, 2, 3)]
    assert [list(part.paths) for part in found] == [[b"a.jpg"], [b"c.jpg", b"d.jpg"], [b"folder.jpg"]]
    assert [list(part.errors) for part in found] == [[b"b"], [], [b"folder.jpg", b"x"]]
    assert [part.first for part in found] == [0, 1, 3]
    whole = of_folder(Paths(paths), problems)
    assert list(whole.paths) == paths and whole.errors == problems and whole.about == found[0].about


def test_a_sorted_list_takes_no_memory_whatever_is_between_its_names(tmp_path, monkeypatch):
    monkeypatch.setattr(list_files, "_BLOCK", 1 << 12)
    for separator in (b"\n", b"\0"):
        (tmp_path / "list").write_bytes(separator.join(b"scans/%08d.jpg" % number for number in range(100_000)))
        tracemalloc.start()
        found = of_file(str(tmp_path / "list"), Shard(3, 10_000))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(found.paths) == 10 and most < 200_000


def test_paths_come_back_as_they_are():
    names = [b"%05d\n\xff" % number for number in range(3000)]
    paths = Paths(names)
    assert list(paths) == names and len(paths) == 3000 and not Paths()
    assert list(paths[900:2100]) == names[900:2100] and names[3] in paths and b"none" not in paths


def make(*paths):
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w"):
            pass


def test_the_images_of_a_folder_ascend_byte_by_byte(tmp_path):
    names = [
        "a.jpg",
        "a/b.jpg",
        "a/c/d.PNG",
        "a!.jpg",
        "a-b.jpg",
        "a0.jpg",
        "b.jpg/x.jpg",
        "b.jpg!.jpg",
        "é/a.jpg",
        "a.txt",
    ]
    make(*(tmp_path / "scans" / name for name in names), tmp_path / "scans" / os.fsdecode(b"\xff.jpg"))
    (tmp_path / "scans" / "circle").symlink_to(tmp_path / "scans")
    found = find_images(str(tmp_path / "scans"))
    folder = os.fsencode(tmp_path / "scans") + b"/"
    expected = [name.encode() for name in names if not name.endswith("txt")] + [b"\xff.jpg"]
    assert list(found.paths) == sorted(folder + name for name in expected) and found.errors == {}
    assert list_images(f"{tmp_path}/scans/") == (list(map(os.fsdecode, found.paths)), {})


def test_a_tree_deeper_than_pythons_stack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    make("./a.jpg")
    deepest = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        assert list(find_images("d").paths) == [b"d/" * 1500 + b"a.jpg"]
    finally:  # pytest's own removal of old folders is recursive, and ends the whole run
        os.fchdir(deepest)
        os.close(deepest)
        os.remove("a.jpg")
        for _ in range(1500):
            os.chdir("..")
            os.rmdir("d")


def test_folders_without_images(tmp_path):
    make(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="no images found in .*JPEG") as error:
        find_images(str(tmp_path))
    assert error.value.setting == "data"
    (tmp_path / "x").symlink_to("x")
    with pytest.raises(UsageError, match="/x can't be looked at"):
        find_images(str(tmp_path))


def test_folders_that_are_linked_with_each_other_end(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_MOST_VISITS", 50)
    for number in range(9):
        make(tmp_path / str(number) / "a.jpg")
        for other in range(9):
            if other != number:
                (tmp_path / str(number) / f"to-{other}").symlink_to(tmp_path / str(other))
    paths, problems = list_images(str(tmp_path))
    assert {str(tmp_path / str(number) / "a.jpg") for number in range(9)} <= set(paths)
    assert len(paths) == len(set(paths)) <= 9 * 50
    assert 1 <= len(problems) <= 9 and all("is linked from more than 50 places" in text for text in problems.values())


def test_a_folder_that_is_linked_from_several_places_is_listed_in_each(tmp_path):
    make(tmp_path / "real" / "a.jpg")
    for number in range(30):
        (tmp_path / f"link-{number}").symlink_to(tmp_path / "real")
    paths, problems = list_images(str(tmp_path))
    assert len(paths) == 31 and not problems


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "lists no files"),
        (b"PK\x03\x04\x14\0", "is a workbook or compressed; save it as text"),
        (b"\r\n \r\n\xef\xbb\xbf"[:5], "lists no files"),
        (b"\xff\xfea\0\x00\xd8a\0", "begins as UTF-16 but is none"),
        (b"a.jpg \na.jpg\n", "repeats a.jpg"),
        (b"b.jpg\na.jpg\nb.jpg\n", "repeats b.jpg"),
    ],
)
def test_lists_that_are_none(tmp_path, content, words):
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(UsageError, match=words) as error:
        of_file(str(tmp_path / "list"))
    assert error.value.setting == "list_file"


def test_hidden_and_system_names_are_left_out_at_any_depth_and_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    root = tmp_path / ".scans"  # what is named itself is searched
    left = [
        ".a.jpg",
        "._b.jpg",
        ".x/c.jpg",
        "y/@eaDir/a.jpg/t.jpg",
        "$Recycle.Bin/a.jpg",
        "__MACOSX/._a.jpg",
        "#recycle/a.jpg",
    ]
    more = [
        "f.тест",
        "g.\x1b[31m",
        "lost+found/a.jpg",
        "Thumbs.db",
        "y/a.xyz",
        "y/b.XYZ",
        "README",
        "c.jpg?width=600",
        "d.jpg.",
        "e.JPG~",
    ]
    make(*(root / name for name in ["y/a.jpg", "a@eaDir.jpg", *left, *more]))
    assert [os.path.relpath(os.fsdecode(path), root) for path in find_images(str(root)).paths] == [
        "a@eaDir.jpg",
        "y/a.jpg",
    ]
    (line,) = caplog.messages
    assert line.startswith("left out: 3 hidden, 2 .xyz, 2 without an ending, ") and line.endswith(".")
    for count in (
        "1 @eaDir",
        "1 $Recycle.Bin",
        "1 lost+found",
        "1 Thumbs.db",
        "2 without an ending",
        "1 .jpg?…",
        "1 .jpg~",
        "1 .тест",
        r"1 .\x1b…",
    ):
        assert count in line
    make(tmp_path / "none" / ".a.jpg")
    with pytest.raises(UsageError, match=r"no images found in .*; left out: 1 hidden\)\.$"):
        find_images(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("globs", "left"),
    [
        (["*_thumb.*"], ["a.jpg", "b/c/a.jpg", "b/d.jpg"]),
        (["b"], ["a.jpg", "a_thumb.jpg"]),
        (["b/"], ["a.jpg", "a_thumb.jpg"]),
        (["b/c"], ["a.jpg", "a_thumb.jpg", "b/d.jpg"]),
        (["*/d.jpg", "a?thumb.jpg"], ["a.jpg", "b/c/a.jpg"]),
        (["c/a.jpg"], ["a.jpg", "a_thumb.jpg", "b/c/a.jpg", "b/d.jpg"]),
    ],
)
def test_globs_leave_out_more(tmp_path, globs, left):
    make(*(tmp_path / name for name in ("a.jpg", "a_thumb.jpg", "b/c/a.jpg", "b/d.jpg")))
    for folder in (str(tmp_path), f"{tmp_path}/"):
        paths = find_images(folder, exclude=globs).paths
        assert [os.path.relpath(os.fsdecode(path), folder) for path in paths] == left


def test_lists_and_folders_of_cases(shared, monkeypatch):
    monkeypatch.chdir(shared / "cases" / "lists")
    for name in ("crlf-no-last-line-end", "quoted", "trailing-space", "utf-16"):
        assert list(of_file(f"{name}.txt").paths) == [b"sheet-%d.jpg" % number for number in (1, 2, 3)]
    assert list(of_file("no-ending.txt").paths) == [b"5f1d7c0b3a9e4d6f8a2b", b"sheet-1.jpg"]
    paths, problems = list_images("../folders")
    assert len([path for path in paths if "/Fern/" in path or "/Moss/" in path]) == 20 and not problems
    assert not [path for path in paths if "@eaDir" in path or "/." in path[2:]]


def test_a_placeholder_for_a_phones_picture_is_left_out(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "b.heic").write_bytes(bytes(100))
    (tmp_path / "c.jpg").write_bytes(b"short")  # is an error
    left_out = LeftOut()
    paths, problems = list_images(tmp_path, left_out)
    assert [os.path.basename(path) for path in paths] == ["b.heic", "c.jpg"] and not problems
    assert str(left_out) == "1 .heic"
