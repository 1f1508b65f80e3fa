"""The images of archives as GBIF, Symbiota portals and an IPT write them, and of tables."""

import os
import zipfile

import archives
import pytest
from archives import COMMAS, DC, DWC, GBIF, TABS

from lib.download.archive import open_archive
from lib.download.delimited import LONGEST_LINE
from lib.download.media import find_media
from lib.download.settings import Settings
from lib.errors import UsageError

BY, NC, ZERO = (
    f"http://creativecommons.org/{part}/legalcode"
    for part in ("licenses/by/4.0", "licenses/by-nc/4.0", "publicdomain/zero/1.0")
)


def found(path, tmp_path, **choice):
    """The media of an archive as plain tuples, and why others were left out."""
    settings = Settings(str(path), str(tmp_path), **choice)
    media, left_out = find_media(open_archive(settings.input), settings, settings.output)
    return [tuple(medium) for medium in media], dict(left_out)


def test_an_archive_of_gbif(tmp_path):
    occurrences = [
        ["1", "CC_BY_4_0", "Kew", 'K00"1'],  # a quotation mark, which nothing encloses
        ["2", "CC0_1_0", "", "K002"],
        ["3", "CC0_1_0", "Paris", "P3"],
    ]
    media = [
        ["2", "StillImage", "image/jpeg", "https://a.example/2.jpg", '"Rosa', NC, "Mr. Jones"],
        ["1", "StillImage", "image/jpeg", "https://a.example/1.jpg", "", BY, ""],
        ["1", "StillImage", "image/jpeg", "https://b.example/1 b.jpg", "several of one", "", ""],
        ["2", "Sound", "audio/mpeg", "https://a.example/2.mp3", "", BY, ""],
        ["3", "StillImage", "", "urn:uuid:3", "no address", BY, ""],
        ["3", "", "image/tiff", "http://a.example/1.jpg", "no type", ZERO, ""],
        ["3", "", "video/mp4", "http://a.example/3.mp4", "no type, but a video", ZERO, ""],
        ["9", "StillImage", "", "https://a.example/9.jpg", "no such occurrence", BY, ""],
        ["1", "StillImage", "image/jpeg", "https://a.example/3.jpg", "a\ttab more", BY, ""],
    ]
    path = archives.gbif(tmp_path / "gbif.zip", occurrences, media)
    assert found(path, tmp_path) == (
        [
            ("https://a.example/2.jpg", "2", "K002", "CC BY-NC 4.0", "Mr. Jones"),
            ("https://a.example/1.jpg", "1", 'K00"1', "CC BY 4.0", "Kew"),
            # The licence of the occurrence's data is none for its image.
            ("https://b.example/1 b.jpg", "1", 'K00"1', "", "Kew"),
            ("http://a.example/1.jpg", "3", "P3", "CC0 1.0", "Paris"),
            ("https://a.example/9.jpg", "9", "", "CC BY 4.0", ""),
        ],
        {"of another type": 2, "without an address": 1, "lines with more values than columns": 1},
    )
    media, left_out = found(path, tmp_path, licences=("by", "cc0"))
    assert [medium[0][-5:] for medium in media] == ["1.jpg", "1.jpg", "9.jpg"]
    assert left_out["with CC BY-NC 4.0"] == 1 and left_out["with no licence"] == 1
    assert [medium[0] for medium in found(path, tmp_path, kind="Sound")[0]] == ["https://a.example/2.mp3"]
    assert len(found(path, tmp_path, kind="any")[0]) == 7
    assert os.listdir(tmp_path) == ["gbif.zip"]


def test_an_archive_of_a_symbiota_portal(tmp_path):
    """In Latin-1, with commas, quotation marks and line ends in fields, and with terms of Audubon Core."""
    attribution = ["© Universität, Herbarium", "Universität Zürich", "CC BY (Attribution)", ""]
    share_alike = ["", "", "CC BY-NC-SA (Attribution-NonCommercial-ShareAlike)"]
    share_alike += ["https://creativecommons.org/licenses/by-nc/4.0/"]
    large, good = "https://s.example/7_lg.jpg", "https://s.example/7.jpg"
    media = [
        ["7", "urn:uuid:7", large, good, "image/jpeg", "StillImage", *attribution],
        ["7", "https://s.example/n_lg.jpg", "", "https://s.example/n.jpg", "image/jpeg", "StillImage", *share_alike],
        ["8", "https://s.example/8.jpg", "", "", "", "StillImage", 'a "quoted"\nstatement', "", "", ""],
    ]
    path = archives.symbiota(tmp_path / "symbiota.zip", [["7", "ZÜ-7", ""], ["8", "", "Jena"]], media)
    assert found(path, tmp_path)[0] == [
        ("https://s.example/7_lg.jpg", "7", "ZÜ-7", "CC BY", "Universität Zürich"),
        ("https://s.example/n.jpg", "7", "ZÜ-7", "CC BY-NC 4.0", ""),
        ("https://s.example/8.jpg", "8", "", 'a "quoted" statement', "Jena"),
    ]
    # The same bytes under a wrong `encoding`.
    wrong = archives.symbiota(tmp_path / "wrong.zip", [["7", "ZÜ-7", ""]], media[:1])
    with zipfile.ZipFile(wrong) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["meta.xml"] = members["meta.xml"].replace(b"ISO-8859-1", b"UTF-8")
    assert found(archives.zipped(tmp_path / "wrong.zip", members), tmp_path)[0][0][4] == "Universität Zürich"


def test_associated_media_of_a_core(tmp_path):
    terms = [DWC + "catalogNumber", DC + "license", DWC + "associatedMedia"]
    rows = [
        ["X:1", "1", NC, "https://a.example/1.jpg | https://a.example/2.jpg|http://b.example/3.jpg"],
        ["X:2", "2", "CC0", "see https://a.example/4.jpg"],
        ["X:3", "3", "CC0", "https://a.example/5.jpg; https://a.example/6.jpg?a=1;b=2, https://a.example/7.jpg"],
        ["X:4", "4", "CC0", ""],
    ]
    described = archives.meta((TABS, "occurrence.txt", DWC + "Occurrence", [None, *terms]))
    text = archives.tabbed(["id", "catalogNumber", "license", "associatedMedia"], rows)
    path = archives.zipped(tmp_path / "ipt.zip", {"meta.xml": described, "occurrence.txt": text})
    media, left_out = found(path, tmp_path)
    assert [(url[-7:], record, number, licence) for url, record, number, licence, _ in media] == [
        ("e/1.jpg", "X:1", "1", "CC BY-NC 4.0"),
        ("e/2.jpg", "X:1", "1", "CC BY-NC 4.0"),
        ("e/3.jpg", "X:1", "1", "CC BY-NC 4.0"),
        ("e/4.jpg", "X:2", "2", "CC0"),
        ("e/5.jpg", "X:3", "3", "CC0"),
        ("a=1;b=2", "X:3", "3", "CC0"),
        ("e/7.jpg", "X:3", "3", "CC0"),
    ]
    assert left_out == {"without an address": 1}


@pytest.mark.parametrize("case", ["no field", "no extension", "no meta", "in a folder", "no header", "default"])
def test_what_a_meta_xml_leaves_out_is_found_in_the_headers(case, tmp_path):
    """Also an archive within a folder, and what a `meta.xml` alone knows."""
    header, row = ["coreid", "identifier", "license"], ["a", "https://a.example/a.jpg", "CC BY"]
    media = (TABS, "multimedia.txt", GBIF + "Multimedia", [None, DC + "identifier", DC + "license"])
    core = (COMMAS, "occurrence.txt", DWC + "Occurrence", [None, DWC + "catalogNumber"])
    text, folder = archives.tabbed(header, [row]), ""
    if case == "no field":
        described = archives.meta(core, (TABS, "multimedia.txt", GBIF + "Multimedia", [None, None, None]))
    elif case == "no extension":
        described = archives.meta(core)
    elif case == "no header":
        described, text = (
            archives.meta(core, ({**TABS, "ignoreHeaderLines": "0"}, *media[1:])),
            archives.tabbed(row, []),
        )
    elif case == "default":
        described = archives.meta(core, (*media[:3], [None, DC + "identifier"])).replace(
            "</extension>", f'<field default="CC BY" term="{DC}license"/></extension>'
        )
        text = archives.tabbed(header[:2], [row[:2]])
    else:
        described, folder = archives.meta(core, media), "archive/" if case == "in a folder" else ""
    members = {
        folder + "meta.xml": described,
        folder + "occurrence.txt": archives.quoted(["id", "catalogNumber"], [["a", "A 1"]]),
        folder + "multimedia.txt": text,
    }
    if case == "no meta":
        del members["meta.xml"]
    path = archives.zipped(tmp_path / "a.zip", members)
    assert found(path, tmp_path) == ([("https://a.example/a.jpg", "a", "A 1", "CC BY", "")], {})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "\ufeffid,catalogNumber,identifier,license\r\n1,A,https://a.example/1.jpg,CC BY\r\n".encode()),
        ("t.csv", b'id;catalogNumber;identifier;license\n1;A;"https://a.example/1.jpg";CC BY'),
        ("t.txt", "id\tcatalogNumber\tidentifier\tlicense\n1\tA\thttps://a.example/1.jpg\tCC BY\n".encode("utf-16")),
        ("t.tsv", b"gbifID\tCatalogNumber\taccessURI\tidentifier\trights\n1\tA\thttps://a.example/1.jpg\t7\tCC BY\n"),
    ],
)
def test_tables_of_any_kind(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert found(tmp_path / name, tmp_path)[0] == [("https://a.example/1.jpg", "1", "A", "CC BY", "")]


def test_a_column_of_ones_own(tmp_path):
    (tmp_path / "t.csv").write_text("nr,Scan,identifier\n1,https://a.example/1.jpg|https://a.example/2.jpg,7\n")
    assert [row[0][-5:] for row in found(tmp_path / "t.csv", tmp_path, column="scan")[0]] == ["1.jpg", "2.jpg"]
    with pytest.raises(UsageError, match="no column 'photo', only identifier, nr, scan") as refused:
        found(tmp_path / "t.csv", tmp_path, column="photo")
    assert refused.value.setting == "column"


def test_the_first_and_a_sample(tmp_path):
    """Both count images, not rows: an image that several occurrences share is one."""
    rows = [[str(n), f"https://a.example/{n % 40}.jpg"] for n in range(100)]
    (tmp_path / "t.tsv").write_bytes(archives.tabbed(["id", "identifier"], rows))
    first = found(tmp_path / "t.tsv", tmp_path, limit=10)[0]
    assert [row[1] for row in first] == [str(n) for n in range(10)]
    assert len(found(tmp_path / "t.tsv", tmp_path, limit=40)[0]) == 100
    draws = [found(tmp_path / "t.tsv", tmp_path, sample=10, seed=seed)[0] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    for draw in draws:
        urls = {row[0] for row in draw}
        assert len(urls) == 10
        assert [row[1] for row in draw] == [row[0] for row in rows if row[1] in urls]
    assert len({row[0] for row in draws[0]} & {row[0] for row in draws[2]}) < 10
    assert len(found(tmp_path / "t.tsv", tmp_path, sample=1000)[0]) == 100


def simple(path):
    header = ["gbifID", "license", "catalogNumber", "mediaType"]
    return archives.zipped(path, {"0001-2.csv": archives.tabbed(header, [["1", "CC0_1_0", "K1", "StillImage"]])})


def cut(path):
    archives.gbif(path, [["1", "", "", ""]], [["1", "", "", "https://a.example/1.jpg", "", "", ""]])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def damaged(path):
    archives.gbif(path, [["1", "", "", ""]], [["1", "", "", "https://a.example/1.jpg", "", "", ""]])
    content = path.read_bytes()
    place = content.index(b"multimedia.txt") + 20
    path.write_bytes(content[:place] + bytes(40) + content[place + 40 :])


def without(member):
    def make(path):
        archives.gbif(path, [["1", "", "", ""]], [["1", "", "", "https://a.example/1.jpg", "", "", ""]])
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist() if name != member}
        archives.zipped(path, members)

    return make


def entities(path):
    archives.zipped(path, {"meta.xml": '<!DOCTYPE a [<!ENTITY b "bbbb">]><archive>&b;</archive>', "occurrence.txt": ""})


def one_line(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("multimedia.txt", b"id\tidentifier\n" + b"x" * (LONGEST_LINE + 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (simple, "has no column of image addresses.*'Simple' has no links"),
        (cut, "a zip that is cut short; download it again"),
        (damaged, "is not a whole .*table"),
        (without("multimedia.txt"), "lacks multimedia.txt, which its meta.xml describes"),
        (without("occurrence.txt"), "lacks occurrence.txt"),
        (entities, "is not a whole Darwin Core Archive"),
        (one_line, "line 2 has more than 16,000,000 characters"),
        (lambda path: archives.zipped(path, {"meta.xml": "<archive"}), "is not a whole Darwin Core Archive"),
        (lambda path: archives.zipped(path, {"a.jpg": "x", "b.txt": "x", "c.txt": "y"}), "isn't a Darwin Core Archive"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0"), "no column of image addresses"),
        (lambda path: path.write_text("a,b\n1,2\n"), "no column of image addresses"),
        (lambda path: path.write_text(""), "no column of image addresses"),
    ],
)
def test_what_is_no_archive_is_one_sentence(make, words, tmp_path):
    path = tmp_path / "a.zip"
    make(path)
    with pytest.raises(UsageError, match=words) as refused:
        found(path, tmp_path)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)
