"""The pages in a browser, used as a curator would."""

import csv
import os
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from browser import saved
from PIL import Image

import imagesToTFR
from lib.data.categories import CATEGORIES
from lib.data.corrections import read_corrections
from lib.data.thumbnails import LARGER_BYTES, allowance, encode, larger_count
from lib.display import pages
from lib.prediction.report import report_table
from lib.prediction.settings import Settings
from lib.storage.names import escape_name

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
    window.look(1280, 1200)  # in which all cards are in view
    window.open(page)
    window.run("localStorage.clear()")
    window.open(page)
    return window


def names_of(cards):
    return [card.get_attribute("data-f") for card in cards]


def name_of(window, card):
    """The name of a card's image, as in the table."""
    return window.run(
        "return JSON.parse(document.querySelector('#data').textContent).names[arguments[0].dataset.image]", card
    )


def section_of(window, label):
    """The cards under a heading, in their order."""
    for section in window.all("#grid section"):
        if section.find_element("css selector", "h2").text.startswith(label):
            cards = section.find_elements("css selector", ".card")
            return sorted(cards, key=lambda card: int(card.get_attribute("aria-posinset")))
    return []


def press(window, *keys):
    window.driver.switch_to.active_element.send_keys(*keys)


def choose(window, menu, label):
    window.choose(window.one(menu), label)


def test_counts_and_order(opened):
    assert [row.text for row in opened.all("#bars .count")] == ["11"] * 3
    assert [row.text for row in opened.all("#bars .label")] == list(LABELS)
    for label in LABELS:
        found = [card.text for card in section_of(opened, label)]
        chances = [int(text.split()[0]) for text in found]
        assert len(chances) == 11 and chances == sorted(chances)
    assert section_of(opened, LABELS[0])[0].text.startswith("30 %")
    assert opened.text("#found") == "33 images here"
    assert not opened.shown("#tab-teach, #tab-audit")
    assert "there is no" in opened.text("#browse .notice") and "t.tsv.features.npz" in opened.text("#browse .notice")
    for card in section_of(opened, LABELS[0]):
        image = card.find_element("css selector", "img")
        assert opened.wait(lambda image=image: opened.run("return arguments[0].naturalWidth", image)) == 120
    opened.one("#tab-details").click()
    assert [row.text for row in opened.all(".counts tbody td:nth-child(2)")] == ["11"] * 3


def test_what_is_shown(opened):
    def visible():
        return len(opened.all("#grid .card"))

    choose(opened, "#show", "less than 50 % certain")
    assert opened.text("#found") == "12 images here" and visible() == 12
    choose(opened, "#group", "not grouped")
    (heading,) = opened.all("#grid h2")
    assert heading.text == "All images 12 images"
    chances = [int(card.text.split()[0]) for card in section_of(opened, "All")]
    assert chances == sorted(chances)
    choose(opened, "#sort", "most certain first")
    assert [int(card.text.split()[0]) for card in section_of(opened, "All")] == chances[::-1]
    choose(opened, "#show", "all images")
    choose(opened, "#sort", "by name")
    names = [name_of(opened, card) for card in section_of(opened, "All")]
    assert len(names) == 33 and names[:20] == sorted(names[:20])
    opened.one("#name").send_keys("CAF\\XE9")
    assert visible() == 1
    opened.one("#name").send_keys("none")
    assert opened.shown("#nothing") and opened.text("#found") == "0 images here"


def test_corrections_become_training_data(opened, page, tmp_path, monkeypatch):
    from selenium.webdriver.common.keys import Keys

    first = section_of(opened, LABELS[0])
    first[0].click()
    press(opened, LABELS[1][0].lower())
    opened.wait(lambda: opened.shown("#browse-categories"))
    press(opened, Keys.ENTER)
    assert opened.text("#said") == f"1 image decided: {LABELS[1]}."
    second = section_of(opened, LABELS[2])
    second[0].click()
    press(opened, Keys.SHIFT + Keys.ARROW_RIGHT)
    assert opened.text("#selected") == "2 images selected"
    press(opened, Keys.ENTER)  # they are what they were answered as
    section_of(opened, LABELS[2])[0].click()
    opened.one("#browse-finder input").send_keys("Seeds & fruits", Keys.ENTER)
    assert opened.text("#progress") == "4 of 33 looked at"
    wanted = {
        name_of(opened, card): label
        for label in (LABELS[1], "Seeds & fruits", LABELS[2])
        for card in section_of(opened, label)
        if "✓" in card.text
    }
    assert len(wanted) == 4 and sorted(wanted.values()).count(LABELS[2]) == 2
    opened.open(page)  # again: they are kept
    assert opened.text("#progress") == "4 of 33 looked at"
    choose(opened, "#show", "decided")
    assert opened.text("#found") == "4 images here"
    opened.requests()
    opened.one("#save").click()
    saved = opened.downloads / "corrections.tsv"
    opened.wait(saved.exists)
    assert all(address.startswith(("blob:", "data:")) for address in opened.requests())
    decided = read_corrections(str(saved))
    assert decided.taught == wanted
    monkeypatch.chdir(tmp_path)
    assert imagesToTFR.main(["-t", str(saved), "-o", "corrected", "--duplicates", "off"]) == 0
    with open("corrected-index.tsv", newline="", encoding="utf-8") as file:
        index = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert {row["FILE"]: row["CATEGORY"] for row in index} == wanted
    opened.one("#tab-apply").click()
    opened.one("#discard").click()
    opened.driver.switch_to.alert.accept()
    assert opened.text("#progress") == "0 of 33 looked at"
    opened.one("#load").send_keys(str(saved))
    told = "4 corrections loaded; this page has no category Seeds & fruits, so it is new."
    opened.wait(lambda: opened.text("#loaded") == told)
    assert opened.text("#progress") == "4 of 33 looked at"
    saved.write_text("FILE\tPREDICTION\n")
    opened.one("#load").send_keys(str(saved))
    opened.wait(lambda: "no table of corrections" in opened.text("#loaded"))
    saved.unlink()
    opened.one("#undo").click()
    assert opened.text("#progress") == "0 of 33 looked at"


def load(window, path, content):
    """Load a file of corrections into the page, and return what the page says of it."""
    path.write_bytes(content)
    window.run("document.querySelector('#loaded').textContent = ''")
    window.one("#load").send_keys(str(path))
    return window.wait(lambda: window.text("#loaded"))


def some_names(window):
    return window.run(
        "return JSON.parse(document.querySelector('#data').textContent).names.filter(n => /\\d\\.png$/.test(n))"
    )


# FILE, CATEGORY and ROLE as programs write them; A and B stand for names of images.
TABLES = {
    "Excel in German": 'sep=;\r\nFILE;CATEGORY;ROLE\r\nA;Käfer;teach\r\nB;"Text ""<b>""";\r\n'.encode("cp1252"),
    "Excel's UTF-8": '\ufeffFILE,CATEGORY,NOTE\r\nA,Käfer,"two\r\nlines; ""or"" 2"\r\n,,\r\nB,\'=Seeds,\r\n'.encode(),
    "Excel's Unicode text": 'FILE\tCATEGORY\r\nA\t"Käfer"\r\nB\tAnimal\r\n'.encode("utf-16"),
    "UTF-16 of another order": "\ufeffFILE;CATEGORY\nA;Käfer\nB;Animal".encode("utf-16-be"),
    "an old Macintosh": b"ROLE,CATEGORY, FILE \raudit,Animal  1,A\rteach,Seeds,B\r",
    "pandas": b'FILE\tCATEGORY\nA\t"Text ""<b>"""\nB\t"Seeds\n',
}


def test_corrections_are_read_as_python_reads_them(opened, tmp_path):
    first, second = some_names(opened)[:2]
    opened.one("#tab-apply").click()
    for writer, content in TABLES.items():
        path = tmp_path / "loaded.csv"
        for sign, name in (("A", first), ("B", second)):
            for encoding in ("ascii", "utf-16-le", "utf-16-be"):
                for before, behind in (("\n", "\t"), ("\n", ","), ("\n", ";"), (",", "\r")):
                    cell = (before + sign + behind).encode(encoding)
                    content = content.replace(cell, (before + name + behind).encode(encoding))
        said = load(opened, path, content)
        expected = read_corrections(str(path))
        assert set(expected.decided) == {first, second}, writer
        assert said.startswith("2 corrections loaded"), writer
        found = saved(opened)
        assert (found.taught, found.audited) == (expected.taught, expected.audited), writer
        assert opened.text("#progress") == "2 of 33 looked at"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04...", "it is a workbook of Excel’s; save it there as .csv and load that"),
        (b"FILE\tCATEGORY\tROLE\nx.png\tAnimal\t\ny.png\tAnimal\ttech\n", "line 3 has the ROLE “tech”, and it must be"),
        ("FILE,CATEGORY\nü.png,".encode() + b"K\xe4fer\n", "it is in UTF-8, but for some bytes; save it as UTF-8"),
        (b'FILE,CATEGORY\nx.png,"Animal\n', "line 2 has a double quote that opens no value or closes none"),
        (b'FILE,CATEGORY\n"x\ty.png",Animal\n', "line 2 has no FILE, or no CATEGORY that can be used"),
    ],
)
def test_corrections_that_cannot_be_used_are_refused(opened, tmp_path, content, said):
    opened.one("#tab-apply").click()
    assert load(opened, tmp_path / "loaded.csv", content).startswith(f"Nothing was loaded: {said}")
    assert not opened.one("#save").is_enabled()


def test_loading_names_what_is_new_and_counts_what_is_here(opened, tmp_path):
    opened.one("#tab-apply").click()
    here, rows = some_names(opened)[0], "".join(f"elsewhere/{number}.png\tAnimal\n" for number in range(40))
    said = load(opened, tmp_path / "loaded.tsv", f"FILE\tCATEGORY\n{here}\tAnimaal\n{rows}".encode())
    assert said == (
        "41 corrections loaded, 40 of them about images that aren’t in this page (kept and saved again, but not learnt "
        "from here); this page has no category Animaal, so it is new."
    )
    assert opened.text("#progress") == "1 of 33 looked at"
    assert opened.text("#apply-count") == "41 images taught, 0 images audited; 40 of them not in this page."
    assert len(saved(opened).taught) == 41
    rows = "".join(f"{here}\t{letter}\n" for letter in "ABCDEFG")
    said = load(opened, tmp_path / "loaded.tsv", f"FILE\tCATEGORY\n{rows}".encode())
    assert said.endswith("; this page has no categories A, B, C, D, E and 2 more, so they are new.")


def test_details_tell_answers_from_decisions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (6, 4)).save("0.png")
    (tmp_path / "t.tsv").write_text("FILE\tPREDICTION\n0.png\tLive\n", encoding="utf-8")
    (tmp_path / "c.tsv").write_text("FILE\tCATEGORY\n0.png\tText\nelsewhere.png\tText\n", encoding="utf-8")
    for corrections, told in (
        (None, "model</h2>\n<table"),
        ("c.tsv", "model and of people</h2>\n<p>1 image as people"),
    ):
        report_table(Settings(report_from="t.tsv", report="t.html", corrections=corrections))
        assert f"<h2>Answers of the {told}" in (tmp_path / "t.html").read_text(encoding="utf-8")


def test_hostile_names_are_shown_and_harm_nothing(opened):
    opened.one("#tab-details").click()
    for picture in opened.all("#grid img, #grid .card, bdi, tr"):
        opened.run(
            "for (const kind of ['mouseover', 'error', 'load']) arguments[0].dispatchEvent(new Event(kind))", picture
        )
    assert opened.run(
        "return window.harmed === undefined && !document.querySelector('[onerror], [onmouseover], bdi *')"
    )
    assert len(opened.all("script")) == 4
    text = opened.run(
        "return [...document.querySelectorAll('.card')].map((card) => card.title).join() + document.body.textContent"
    )
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


def test_a_picture_leads_to_its_file_whatever_the_name(opened, page):
    from selenium.webdriver.common.keys import Keys

    addresses = set()
    for label in LABELS:
        for card in section_of(opened, label):
            opened.run("arguments[0].focus()", card)
            press(opened, "z")
            address = urlsplit(opened.run("return document.querySelector('#zoomed-link').href"))
            assert (address.scheme, address.query, address.fragment) == ("file", "", "")
            addresses.add(unquote_to_bytes(address.path))
            assert os.path.isfile(unquote_to_bytes(address.path))
            press(opened, Keys.ESCAPE)
    folder = bytes(page.parent / "scans") + b"/"
    assert addresses == {folder + name for name in (*HOSTILE, *(b"%02d.png" % number for number in range(ORDINARY)))}


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
    for tab in ("browse", "apply", "details"):
        opened.one(f"#tab-{tab}").click()
        if tab == "browse":
            opened.all("#grid .card")[0].click()  # its colours, too
            opened.one("#confirm").click()
            opened.all("#grid .card")[1].click()
        assert opened.run("return document.documentElement.scrollWidth <= innerWidth"), tab
        assert opened.violations() == [], tab


def test_by_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    press(opened, Keys.TAB)
    focused = opened.driver.switch_to.active_element
    assert focused.text == "Skip to the images" and focused.is_displayed() and focused.location["x"] >= 0
    visited = []
    for _ in range(12):
        press(opened, Keys.TAB)
        focused = opened.driver.switch_to.active_element
        visited.append(focused.get_attribute("id") or focused.text)
        width = opened.run("return parseFloat(getComputedStyle(arguments[0]).outlineWidth)", focused)
        assert width >= 2, visited
    bars = [f"{label}\n11" for label in LABELS]
    assert [text.replace("\n\n", "\n") for text in visited[:12]] == [
        "errors-link",
        "tab-browse",
        "keys",
        *bars,
        "group",
        "sort",
        "show",
        "name",
        "size",
        visited[11],
    ]
    press(opened, Keys.SPACE, Keys.SHIFT + Keys.ARROW_RIGHT)
    assert opened.text("#selected") == "2 images selected"
    press(opened, Keys.ARROW_DOWN, Keys.END)
    last = opened.driver.switch_to.active_element
    assert last.get_attribute("aria-posinset") == last.get_attribute("aria-setsize") == "11"
    press(opened, Keys.ENTER)
    assert opened.text("#progress") == "2 of 33 looked at"
    press(opened, Keys.BACKSPACE)
    assert opened.text("#progress") == "0 of 33 looked at"
    press(opened, "?")
    assert opened.shown("#help")
    opened.one("#letters").click()
    press(opened, Keys.ESCAPE)
    opened.run("document.querySelector('.card').focus()")
    press(opened, "1", "(")
    assert opened.text("#progress") == "0 of 33 looked at" and not opened.shown("#browse-categories")
    opened.run("localStorage.clear()")  # which all pages share


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


def test_licence_and_holder_stand_under_each_picture(window, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["FILE\tPREDICTION\tPROBABILITY\tLICENCE\tRIGHTSHOLDER"]
    rights = (("CC BY 4.0", "<b onclick=x>Kew</b>\u202e"), ("", "Jena"), ("", ""))
    for number, about in enumerate(rights):
        Image.new("RGB", (60, 40), (80 * number, 0, 0)).save(f"{number}.png")
        lines.append("\t".join((f"{number}.png", LABELS[0], f"0.{5 + number}000", *about)))
    (tmp_path / "t.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    report_table(Settings(report_from="t.tsv", report="t.html"))
    window.look(1280, 900)
    window.open(tmp_path / "t.html")
    wanted = ["CC BY 4.0 · <b onclick=x>Kew</b>‹U+202E›", "Jena", ""]
    window.wait(lambda: len(window.all(".card")) == 3)
    found = sorted(window.all(".card"), key=lambda card: int(card.get_attribute("aria-posinset")))
    assert [card.find_element("css selector", ".rights").text for card in found] == wanted
    heights = [window.run("return arguments[0].getBoundingClientRect().bottom", card) for card in found]
    assert max(heights) - min(heights) < 2
    found[0].click()
    press(window, "z")
    assert window.wait(lambda: window.text("#zoomed-rights")) == wanted[0]


def test_a_page_of_twenty_thousand_images_is_small_and_can_be_filtered(window, tmp_path):
    labels = [category.label for category in CATEGORIES]
    rng = np.random.default_rng(0)
    count = len(labels) * 300
    allowed, most_larger = allowance(count), larger_count(count)
    noise = encode(rng.integers(0, 255, (128, 128, 3), dtype="uint8"), allowed - 8)

    def card(label, number):
        picture = noise + rng.bytes(allowed - len(noise))  # as large as any may be, and no two the same
        name = f"scans/Herbarium of {label}/K{number:09d}_sheet.jpg"
        larger = rng.bytes(LARGER_BYTES // most_larger) if number <= most_larger // len(labels) else None
        return pages.Card(name, label, 0.5, "Text", 0.1, picture, link=f"./{name}", larger=larger)

    groups = [pages.Group(label, 1177, [card(label, number) for number in range(300)]) for label in labels]
    path, features = tmp_path / "large.html", rng.standard_normal((count, 192)).astype("<f2")
    kernel = 0.3 * rng.standard_normal((len(labels), 193)).astype("<f4")
    command = {"model": "m", "features": "f.npz", "stem": "t", "ridge": "", "published": True}
    answers = np.full((count, len(labels)), 1 / len(labels))
    teaching = pages.Teaching(features, kernel, 0.03, command, [], answers, [1177] * len(labels))
    pages.write_prediction_page(str(path), pages.Subject("Large", [], labels), groups, [], teaching)
    assert 17_000_000 < path.stat().st_size < 20_000_000
    window.open(path)
    window.run("localStorage.clear()")
    assert window.text("#found") == "5,100 images here"
    assert 20 < len(window.all("#grid .card")) < 300
    window.one("#name").send_keys("000000007")
    window.wait(lambda: window.text("#found") == "17 images here")
    window.one("#tab-teach").click()
    window.wait(lambda: len(window.shown("#choices button")) == 5)
    window.all("#choices button")[3].click()
    window.wait(lambda: "changed." in window.text("#ask-said"), 20)
