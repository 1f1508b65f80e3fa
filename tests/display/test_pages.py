"""The content of a page, without a browser; tests/test_browser.py has the rest."""

import base64
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from lib.display.pages import Card, Group, Subject, Teaching, common_folder, link_to, shown, write_prediction_page

MOMENT = time.struct_time((2024, 2, 29, 13, 5, 0, 3, 60, 0))


def write(path, **options):
    cards = [Card("scans/a.jpg", "Live", 0.25, "Text", 0.125, b"picture", link="./scans/a.jpg")]
    cards.append(Card("scans/b.jpg", "Live", None, problem="an empty <file>"))
    groups = [Group("Live", 1234, cards), Group("Text", 0, [])]
    errors, decided = (options.pop(name, ()) for name in ("errors", "decided"))
    teaching = options.pop("teaching", None)
    lacking = "" if teaching else "there are none"
    facts = [("Model", "m"), ("The model's <SHA>", "'\"")]
    subject = Subject("A & B", facts, ("Live", "Text"), moment=MOMENT, **options)
    write_prediction_page(str(path), subject, groups, errors, teaching, lacking, decided)
    return path.read_text()


class Strict(HTMLParser):
    """Checks that elements are closed in order and that no identifier is given twice; collects addresses."""

    VOID = frozenset(["meta", "link", "input", "img"])

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.addresses = [], set(), set(), []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            assert attributes["id"] not in self.ids
            self.ids.add(attributes["id"])
        self.references.update((attributes.get("aria-labelledby") or "").split())
        self.addresses += [attributes[name] for name in ("src", "href") if attributes.get(name)]
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_is_sound_and_loads_nothing(tmp_path):
    text = write(tmp_path / "t.html", errors=[("x.jpg", "why")])
    parsed = Strict(text)
    assert parsed.references <= parsed.ids
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= parsed.ids
    assert [address for address in parsed.addresses if not address.startswith(("#", "data:"))] == []
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src &#39;none&#39;" in text


def test_the_texts_of_a_page(tmp_path):
    text = re.sub(r"\s+", " ", write(tmp_path / "t.html", names={"Live": "Live plants"}))
    for part in (
        "<title>A &amp; B</title>",
        "1,234 images. Made 2024-02-29 13:05.",
        "<p>2 images of the 1,234 are in this page",
        "The model&#39;s &lt;SHA&gt;",
        "<small>Live plants</small>",
        'id="small">cGljdHVyZQ== </script>',
        "Names are those below <bdi>scans/</bdi>",
        "needs the images’ features: there are none.",
    ):
        assert part in text, part
    assert "could not be read" not in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert data["names"] == ["scans/a.jpg", "scans/b.jpg"] and data["links"] == ["./scans/a.jpg", ""]
    assert data["probabilities"] == [0.25, None] and data["secondProbabilities"] == [0.125, None]
    assert (data["answers"], data["seconds"], data["counts"]) == ([0, 0], [1, -1], [1234, 0])
    assert data["problems"] == {"1": "an empty <file>"} and data["command"] is None


def test_what_a_page_learns_with(tmp_path):
    features = np.array([[1.5, -2, np.nan], [0.25, 0, 1]], "<f2")
    kernel = np.arange(8, dtype="<f4").reshape(2, 4)
    command = {"model": "m", "features": "f", "stem": "t"}
    probabilities = np.array([[-1, -1], [0.25, 0.75]])
    teaching = Teaching(features, kernel, 0.5, command, ["x", "scans/b.jpg"], probabilities, [3, 1231])
    text = write(tmp_path / "t.html", teaching=teaching, decided=[("scans/a.jpg", "Live", "teach")])

    def numbers(name, kind):
        return np.frombuffer(base64.b64decode(re.search(f'id="{name}">(.*?)</script>', text)[1]), kind)

    np.testing.assert_array_equal(numbers("features", "<f2"), features.ravel())
    np.testing.assert_array_equal(numbers("kernel", "<f4"), kernel.ravel())
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert (data["answers"], data["probabilities"], data["countsBefore"]) == ([0, 1], [0.25, 0.75], [3, 1231])
    assert data["answersOfTable"] == [0, 0] and data["decided"] == [["scans/a.jpg", "Live", "teach"]]
    assert data["audited"] == [1] and data["modelCategories"] == 2 and data["command"] == command
    assert data["ridge"] == 0.5
    assert 'id="learner">"use strict"' in text and "worker-src blob:" in text


def test_many_errors_are_cut_short(tmp_path):
    text = write(tmp_path / "t.html", errors=[(f"{number}.jpg", "why") for number in range(2345)])
    assert "2,345 errors" in text and "And 345 more" in text and text.count("<td>why</td>") == 2000


def test_pages_of_other_predictions_do_not_share_corrections(tmp_path):
    found = {re.search(r'data-identity="(\w{16})"', write(tmp_path / "t.html", identity=name))[1] for name in "aab"}
    assert len(found) == 2


def test_templates_hold_nothing_that_ends_their_element():
    from conftest import ROOT

    for path in (ROOT / "lib" / "display" / "templates").iterdir():
        if path.suffix != ".html":
            assert "</" not in path.read_text(), path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ü 漢字 שלום", "plain ü 漢字 שלום"),
        ("a\u202eb\u2066c\u200bd\ufeff", "a‹U+202E›b‹U+2066›c‹U+200B›d‹U+FEFF›"),
        ("tab\tnul\0", "tab‹U+0009›nul‹U+0000›"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("caf\udce9", "caf\\xe9"),
        ("\U0010ffff\ue000", "‹U+10FFFF›‹U+E000›"),
    ],
)
def test_what_cannot_be_seen_is_shown(text, expected):
    assert shown(text) == expected


def test_links_are_relative_and_never_a_scheme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pages").mkdir()
    assert link_to("scans/a b.jpg", "pages/t.html") == "./../scans/a%20b.jpg"
    assert link_to("javascript:alert(1).jpg", "t.html") == "./javascript%3Aalert%281%29.jpg"
    assert link_to("caf\\xe9\\\\.jpg", "t.html") == "./caf%E9%5C.jpg"
    (tmp_path / "link").symlink_to("pages")
    assert link_to("link/../a.jpg", "t.html") == "./a.jpg"


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        ([], ""),
        (["a.jpg"], ""),
        (["x/y/a.jpg"], "x/y/"),
        (["x/y/a.jpg", "x/yz/a.jpg"], "x/"),
        (["x/a.jpg", "x/ab.jpg", "x/a/b.jpg"], "x/"),
        (["/a.jpg", "/b.jpg"], "/"),
        (["a/b.jpg", "c/d.jpg"], ""),
    ],
)
def test_the_folder_of_all(names, folder):
    assert common_folder(names) == folder
