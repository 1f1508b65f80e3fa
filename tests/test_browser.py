"""The pages in a browser, used as a curator would."""

import csv
import os
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from browser import Browser
from PIL import Image

import imagesToTFR
from lib.data.categories import CATEGORIES
from lib.data.thumbnails import allowance, encode
from lib.display import pages
from lib.prediction.report import report_table
from lib.prediction.settings import Settings
from lib.storage.names import escape_name, unescape_name
from lib.storage.tables import read_table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.once,
]

LABELS = ("Animal", 'Text "<b>"', "שלום")
HOSTILE = (
    b'"><img src=x onerror="window.harmed=1">.png',
    b"'; window.harmed=2; '.png",
    b"<script>window.harmed=3<" + b"/script>.png",
    b"{{ 7 * 7 }}.png",
    b"tab\there.png",
    b"line\nend.png",
    b"bell\x07.png",
    b"caf\xe9.png",
    "photo\u202egnp.exe".encode(),
    "zero\u200bwidth.png".encode(),
    "שלום עולם.png".encode(),
    b"back\\slash.png",
    b"%41?query=1#part.png",
)
ORDINARY = 20


@pytest.fixture(scope="module")
def window(needs_browser, tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of images with ordinary and with hostile names, from a table that nothing is recorded beside."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(1)
    lines = ["MODEL\tFILE\tPREDICTION\tPROBABILITY\tPREDICTION_2\tPROBABILITY_2"]
    for number, name in enumerate([*(b"%02d.png" % number for number in range(ORDINARY)), *HOSTILE]):
        path = folder / "scans" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype="uint8")).resize((120, 90)).save(path, "PNG")
        chance = 0.9 - 0.02 * number
        row = ("m", escape_name(str(path)), LABELS[number % 3], f"{chance:.4f}", LABELS[(number + 1) % 3], "0.0500")
        lines.append("\t".join(row))
    (folder / "t.tsv").write_text("\n".join(lines) + "\n")
    error = '<i onmouseover="window.harmed=4">\u202e\t<b>an empty file</b>'
    (folder / "t.tsv.errors.tsv").write_text(f"FILE\tERROR\n{error}\n")
    (folder / "labels.tsv").write_text("INDEX\tLABEL\n" + "".join(f"{i}\t{label}\n" for i, label in enumerate(LABELS)))
    table, made, labels = (str(folder / name) for name in ("t.tsv", "t.html", "labels.tsv"))
    report_table(Settings(report_from=table, report=made, labels=labels))
    return folder / "t.html"


@pytest.fixture
def opened(window, page):
    """The window with that page, without corrections of before."""
    window.look(1280, 900)
    window.open(page)
    window.run("localStorage.clear()")
    window.open(page)
    return window


def menu_of(window, card):
    """A card's menu, which is made when the card comes into view."""
    window.run("arguments[0].scrollIntoView({block: 'center'})", card)
    return window.wait(lambda: card.find_elements("css selector", "select"))[0]


def names_of(cards):
    return [card.get_attribute("data-f") for card in cards]


def type_into(window, name, text):
    window.one(f".filter [name={name}]").send_keys(text)


def test_counts_and_order(opened):
    assert [row.text for row in opened.all(".counts tbody td:nth-child(2)")] == ["11"] * 3
    assert [row.text for row in opened.all(".counts tbody th")] == list(LABELS)
    widths = [bar.get_attribute("width") for bar in opened.all(".bar rect")]
    assert widths == ["100.0%"] * 3
    for group, label in zip(opened.all(".group"), LABELS):
        assert group.find_element("css selector", "h3").text == label
        chances = [float(card.get_attribute("data-p")) for card in group.find_elements("css selector", ".card")]
        assert len(chances) == 11 and chances == sorted(chances)
    first = opened.all(".card")[0]
    assert "30.0 %, then" in first.text and "5.0 %" in first.text
    assert opened.text("#found") == "33 images here."
    for card in (opened.all(".card")[0], opened.all(".card")[-1]):  # a picture is there when it comes into view
        opened.run("arguments[0].scrollIntoView()", card)
        image = card.find_element("css selector", "img")
        opened.wait(lambda image=image: opened.run("return arguments[0].naturalWidth", image) == 120)


def test_the_filter(opened):
    def visible():
        return names_of(opened.shown(".group .card"))

    type_into(opened, "high", "40")
    opened.wait(lambda: opened.text("#found") == "8 of 33 images here.")
    assert len(visible()) == 8
    type_into(opened, "low", "35")
    opened.wait(lambda: len(visible()) == 3)
    opened.choose(opened.one("[name=answer]"), LABELS[2])
    opened.wait(lambda: len(opened.shown(".group")) == 1)
    opened.one(".filter [type=reset]").click()
    opened.wait(lambda: len(visible()) == 33)
    type_into(opened, "name", "CAF\\XE9")
    opened.wait(lambda: len(visible()) == 1)
    type_into(opened, "name", "none")
    opened.wait(lambda: opened.shown("#nothing"))
    assert opened.text("#found") == "0 of 33 images here."


def test_corrections_become_training_data(opened, page, tmp_path, monkeypatch):
    for card in opened.all(".group .card"):
        menu = menu_of(opened, card)
        own = menu.get_attribute("value")
        number = int(float(card.get_attribute("data-p")) * 1000)
        other = LABELS[(LABELS.index(own) + 1 + number % 2) % 3]
        opened.choose(menu, other)
    assert opened.text("#corrected") == "33 corrections."
    first = opened.all(".group .card select")[0]
    opened.choose(first, LABELS[0])  # as it was
    assert opened.text("#corrected") == "32 corrections."
    wanted = {
        card.get_attribute("data-f"): card.find_element("css selector", "select").get_attribute("value")
        for card in opened.all(".group .card")[1:]
    }
    opened.open(page)  # again: they are kept
    assert opened.text("#corrected") == "32 corrections."
    opened.one("[name=corrected]").click()
    opened.wait(lambda: opened.text("#found") == "32 of 33 images here.")
    opened.requests()
    opened.one("#download").click()
    saved = opened.downloads / "corrections.tsv"
    opened.wait(saved.exists)
    assert all(address.startswith(("blob:", "data:")) for address in opened.requests())
    columns, *rows = read_table(str(saved))
    assert columns == ["FILE", "CATEGORY"] and dict(rows) == wanted and len(rows) == 32
    monkeypatch.chdir(tmp_path)
    assert imagesToTFR.main(["-t", str(saved), "-o", "corrected", "--duplicates", "off"]) == 0
    with open("corrected-index.tsv", newline="", encoding="utf-8") as file:
        index = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert {row["FILE"]: row["CATEGORY"] for row in index} == wanted
    assert all(os.path.isfile(unescape_name(row["FILE"])) for row in index)
    opened.one("#discard").click()
    opened.driver.switch_to.alert.accept()
    assert opened.text("#corrected") == "No corrections yet."
    opened.open(page)
    assert opened.text("#corrected") == "No corrections yet." and not opened.all(".card.changed")


def test_hostile_names_are_shown_and_harm_nothing(opened):
    for picture in opened.all(".picture img, bdi, tr"):
        opened.run(
            "for (const kind of ['mouseover', 'error', 'load']) arguments[0].dispatchEvent(new Event(kind))", picture
        )
    assert opened.run(
        "return window.harmed === undefined && !document.querySelector('[onerror], [onmouseover], bdi *')"
    )
    assert len(opened.all("script")) == 3
    text = opened.run("return document.body.textContent")
    for part in (
        '"><img src=x onerror="window.harmed=1">.png',
        "{{ 7 * 7 }}.png",
        "tab\\there.png",
        "line\\nend.png",
        "bell\\x07.png",
        "caf\\xe9.png",
        "photo‹U+202E›gnp.exe",
        "zero‹U+200B›width.png",
        "שלום עולם.png",
        "back\\\\slash.png",
        '<i onmouseover="window.harmed=4">‹U+202E›',
        "<b>an empty file</b>",
    ):
        assert part in text, part


def test_a_picture_leads_to_its_file_whatever_the_name(opened):
    for card in opened.all(".group .card"):
        address = urlsplit(opened.run("return arguments[0].querySelector('a').href", card))
        assert (address.scheme, address.query, address.fragment) == ("file", "", "")
        assert unquote_to_bytes(address.path) == os.fsencode(unescape_name(card.get_attribute("data-f")))


def test_it_asks_nothing_of_anybody_and_could_not(opened, page):
    requests = [address for address in opened.requests() if not address.startswith("data:")]
    assert requests == [page.as_uri()]
    assert opened.complaints() == []
    answer = opened.driver.execute_async_script(
        "const done = arguments[0]; fetch('https://example.org/').then(() => done('sent'), () => done('refused'));"
    )
    assert answer == "refused"
    assert any("Content Security Policy" in complaint for complaint in opened.complaints())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_everybody_can_use_it(opened, scheme, width):
    opened.look(width, 800, scheme)
    opened.choose(menu_of(opened, opened.all(".group .card")[0]), LABELS[1])  # its colours, too
    assert opened.run("return document.documentElement.scrollWidth <= innerWidth")
    assert opened.violations() == []


def test_by_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    def press(*keys):
        opened.driver.switch_to.active_element.send_keys(*keys)

    press(Keys.TAB)
    focused = opened.driver.switch_to.active_element
    assert focused.text == "Skip to the images" and focused.is_displayed() and focused.location["x"] >= 0
    press(Keys.ENTER)
    visited = []
    for _ in range(8):
        press(Keys.TAB)
        focused = opened.driver.switch_to.active_element
        visited.append(focused.get_attribute("name") or focused.get_attribute("type") or focused.tag_name)
        width = opened.run("return parseFloat(getComputedStyle(arguments[0]).outlineWidth)", focused)
        assert width >= 2, visited
    assert visited == ["answer", "low", "high", "name", "corrected", "reset", "a", "select-one"]
    press(LABELS[1][0])  # as in any menu: the choice that begins so
    assert opened.text("#corrected") == "1 correction."


def test_the_page_of_labelled_records(window, tmp_path):
    rng = np.random.default_rng(0)
    pictures = [encode(rng.integers(0, 255, (24, 24, 3), dtype="uint8"), 1000) for _ in range(6)]
    pairs = [(0, 0), (0, 1), (0, 1), (1, 1), (2, 1), (2, 2)]  # true and answered
    cards = [
        pages.Card(
            f"r.tfr, record {number}", LABELS[answer], 0.9 - number / 10, LABELS[2], 0.05, picture, true=LABELS[true]
        )
        for number, ((true, answer), picture) in enumerate(zip(pairs, pictures))
    ]
    groups = [pages.Group(label, 2, [card for card in cards if card.true == label]) for label in LABELS]
    matrix = [
        [pages.Cell(pairs.count((true, answer)), 2, str(pairs.count((true, answer)))) for answer in range(3)]
        for true in range(3)
    ]
    bins = [{"left": 60.0, "width": 20.0, "certainty": 70.0, "right": 50.0, "share": 100.0}]
    rows = [(label, 0.5, 0.5, 0.5, 2, 0.5) for label in LABELS]
    path = tmp_path / "t.html"
    mistakes = [card for card in cards if card.true != card.answer]
    figures = [("Accuracy", "50.00 %")]
    measured = pages.Measured(figures, matrix, rows, 0.2, bins)
    pages.write_evaluation_page(str(path), pages.Subject("Answers", [], LABELS), groups, measured, mistakes)
    for scheme, width in (("light", 1280), ("dark", 360)):
        window.look(width, 800, scheme)
        window.open(path)
        assert window.violations() == []
        assert window.run("return document.documentElement.scrollWidth <= innerWidth")
    window.look(1280, 900)
    window.open(path)
    assert not window.all("select.correct") and len(window.shown(".group .card")) == 6
    assert [button.text for button in window.all(".matrix button")] == ["1", "2", "1", "1", "1"]
    window.all(".matrix button")[1].click()
    window.wait(lambda: names_of(window.shown(".group .card")) == ["r.tfr, record 1", "r.tfr, record 2"])
    assert window.driver.switch_to.active_element.text == LABELS[0]
    assert [button.get_attribute("aria-pressed") for button in window.all(".matrix button")].count("true") == 1
    window.one(".filter [type=reset]").click()
    window.wait(lambda: len(window.shown(".group .card")) == 6)
    window.one("[name=wrong]").click()
    window.wait(lambda: len(window.shown(".group .card")) == 3)
    assert names_of(window.all("ol .card")) == ["r.tfr, record 1", "r.tfr, record 2", "r.tfr, record 4"]
    assert window.complaints() == []


def test_a_page_of_twenty_thousand_images_is_small_and_can_be_filtered(window, tmp_path):
    labels = [category.label for category in CATEGORIES]
    rng = np.random.default_rng(0)
    allowed = allowance(len(labels) * 300)
    noise = encode(rng.integers(0, 255, (128, 128, 3), dtype="uint8"), allowed - 8)

    def card(label, number):
        picture = noise + rng.bytes(allowed - len(noise))  # as large as any may be, and no two the same
        name = f"scans/Herbarium of {label}/K{number:09d}_sheet.jpg"
        return pages.Card(name, label, 0.5, "Text", 0.1, picture, link=f"./{name}")

    groups = [pages.Group(label, 1177, [card(label, number) for number in range(300)]) for label in labels]
    path = tmp_path / "large.html"
    pages.write_prediction_page(str(path), pages.Subject("Large", [], labels), groups, [])
    assert 12_000_000 < path.stat().st_size < 15_000_000
    window.open(path)
    assert window.text("#found") == "5,100 images here."
    type_into(window, "name", "000000007")
    window.wait(lambda: window.text("#found") == "17 of 5,100 images here.")
