"""The page that learns from its reader, in a browser, used as a curator would."""

import numpy as np
import pytest
from browser import saved
from PIL import Image

from lib.data.categories import LABELS
from lib.measures.adaptation import extend, fit, measure, scale
from lib.measures.softmax import softmax
from lib.measures.uncertainty import share_interval
from lib.models.output_layer import read_output_layer
from lib.prediction.report import report_table
from lib.prediction.settings import RIDGE, Settings
from lib.storage.tables import Table, write_settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.once,
]

Keys = pytest.importorskip(
    "selenium.webdriver.common.keys", reason="needs selenium (Python 3.12 or later, requirements-test.txt)"
).Keys
TAUGHT = 30


class Collection:
    """The real images of `golden/adaptation.npz`: their features, logits and true categories; and a page of them."""

    def __init__(self, folder, shared):
        stored = np.load(shared / "golden" / "adaptation.npz")
        model = shared / "models" / "ConvNeXt-distilled.keras"
        self.layer = read_output_layer(model)
        self.features, self.true = stored["features"], stored["category"]
        self.logits = self.features @ self.layer.kernel + self.layer.bias
        self.names = [f"scans/{number:03d}.png" for number in range(len(self.true))]
        (folder / "scans").mkdir()
        for number, name in enumerate(self.names):
            Image.new("RGB", (8, 6), tuple(np.random.default_rng(number).integers(0, 255, 3).tolist())).save(
                folder / name
            )
        about = {"model": str(model), "labels": list(LABELS), "data": "scans/"}
        table = Table("t.tsv", ["MODEL", "FILE", "PREDICTION", "PROBABILITY", "PREDICTION_2", "PROBABILITY_2"], about)
        with open(folder / "t.tsv", "wb") as file:
            file.write(table.header())
            for name, chances in zip(self.names, softmax(self.logits).tolist()):
                first, second = np.argsort(chances)[:-3:-1]
                values = (LABELS[first], chances[first], LABELS[second], chances[second])
                file.write(table.line([str(model), name, *values]))
        write_settings(str(folder / "t.tsv"), about, {})
        arrays = {"embeddings": self.features, "paths": np.array(self.names), "settings": np.array("{}")}
        np.savez(folder / "t.tsv.features.npz", **arrays)
        report_table(Settings(report_from="t.tsv", report="t.html", audit=60))
        self.page = folder / "t.html"

    def taught(self, decided, new=()):
        """The probabilities that Python finds for the same decisions: name -> label."""
        labels = [*LABELS, *new]
        scaled = scale(self.features, measure([self.features]))
        kernel, bias = extend(self.layer.kernel, self.layer.bias, len(new))
        logits = self.features.astype("float64") @ kernel + bias
        rows = [self.names.index(name) for name in decided]
        weights = fit(scaled[rows], logits[rows], np.array([labels.index(label) for label in decided.values()]), RIDGE)
        return softmax(logits + scaled @ weights.T)

    def label(self, name):
        return LABELS[self.true[self.names.index(name)]]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    from conftest import _NO_DATA, SHARED

    if not (SHARED / "golden").is_dir():
        pytest.skip(_NO_DATA)
    folder = tmp_path_factory.mktemp("collection")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Collection(folder, SHARED)


@pytest.fixture
def opened(window, collection):
    """The window with the page, without decisions of before."""
    window.look(1280, 900)
    window.open(collection.page)
    window.run("localStorage.clear()")
    window.open(collection.page)
    return window


def press(window, *keys):
    window.driver.switch_to.active_element.send_keys(*keys)


def open_tab(window, name):
    window.one(f"#tab-{name}").click()
    window.wait(lambda: len(window.shown("#choices button")) >= 5)  # before the page has learnt, Teach knows two


def asked(window):
    return f"scans/{window.text('#ask-name')}"


def answer(window, label):
    """Answer by the keys that a reader would press."""
    before = asked(window), window.text("#progress")
    labels = [element.text for element in window.all("#choices .label")]
    if label in labels[:5]:
        press(window, str(labels.index(label) + 1))
    else:
        press(window, "/", label, Keys.ENTER)
    window.wait(lambda: (asked(window), window.text("#progress"))[1] != before[1] and asked(window) != before[0])


def probabilities(window, decided, added=()):
    """What the page's own learner answers, with the page's own numbers."""
    labels = [*LABELS, *added]
    script = """
        const done = arguments[arguments.length - 1], text = (id) => document.getElementById(id).textContent.trim();
        const bytes = (id) => Uint8Array.from(atob(text(id)), (character) => character.charCodeAt(0)).buffer;
        const names = JSON.parse(text("data")).names, kernel = new Float32Array(bytes("kernel"));
        const learner = new Worker(URL.createObjectURL(new Blob([text("learner")])));
        learner.onmessage = ({ data }) => done([names, [...data.probabilities]]);
        learner.postMessage({ features: new Uint16Array(bytes("features")), kernel, width: 192, ridge: 0.03 });
        const rows = arguments[0].map((name) => names.indexOf(name));
        learner.postMessage({ rows, targets: arguments[1], added: arguments[2] });
    """
    targets = [labels.index(label) for label in decided.values()]
    names, found = window.driver.execute_async_script(script, list(decided), targets, list(added))
    return names, np.reshape(found, (len(names), len(labels)))


def test_it_learns_what_python_learns(opened, collection):
    open_tab(opened, "teach")
    order, margins = [], np.sort(softmax(collection.logits), axis=1)
    while len(order) < TAUGHT:
        name = asked(opened)
        order.append(name)
        answer(opened, collection.label(name))
    assert len(set(order)) == TAUGHT
    least = np.argsort(margins[:, -1] - margins[:, -2])
    drawn = set(opened.run("return JSON.parse(document.querySelector('#data').textContent).audited"))
    names = opened.run("return JSON.parse(document.querySelector('#data').textContent).names")
    reserved = {names[place] for place in drawn}
    assert len(reserved) == 60 and not reserved & set(order)
    assert order[0] == next(collection.names[place] for place in least if collection.names[place] not in reserved)
    decided = saved(opened).taught
    assert decided == {name: collection.label(name) for name in order}
    expected = collection.taught(decided)
    shown, found = probabilities(opened, decided)
    places = [collection.names.index(name) for name in shown]
    assert np.abs(found - expected[places]).max() < 0.002
    assert (found.argmax(axis=1) == expected[places].argmax(axis=1)).all()
    # What the page shows follows: counts, the changed answers, and the next image.
    answers, base = expected.argmax(axis=1), collection.logits.argmax(axis=1)
    changed = int((answers != base).sum())
    assert opened.text("#progress") == f"{TAUGHT} of 493 looked at · {changed} answers changed"
    final = np.where(np.isin(collection.names, order), collection.true, answers)
    assert [int(count.text) for count in opened.all("#bars .count")] == np.bincount(final, minlength=17).tolist()
    ordered = np.sort(expected, axis=1)
    free = [place for place, name in enumerate(collection.names) if name not in decided and name not in reserved]
    assert asked(opened) == collection.names[min(free, key=lambda place: ordered[place, -1] - ordered[place, -2])]
    right = (answers == collection.true)[free].mean()
    assert right > 0.75  # 64 % before
    opened.open(collection.page)
    opened.wait(lambda: f"{changed} answers changed" in opened.text("#progress"))


def test_a_new_category_is_learnt(opened, collection):
    open_tab(opened, "teach")
    for count in range(1, 9):
        press(opened, *(("/", "Seed packets", Keys.ENTER) if count % 2 else (Keys.ENTER,)))
        opened.wait(
            lambda count=count: "changed." in opened.text("#ask-said") and opened.text("#figure-taught") == str(count)
        )
    decided = saved(opened).taught
    assert list(decided.values()).count("Seed packets") == 4 and len(decided) == 8
    expected = collection.taught(decided, ["Seed packets"])
    names, found = probabilities(opened, decided, ["Seed packets"])
    assert np.abs(found - expected[[collection.names.index(name) for name in names]]).max() < 0.002
    assert "Seed packets" in [label.text for label in opened.all("#bars .label")]
    opened.one("#tab-apply").click()
    command = opened.text("#command").replace("\\\n", "")
    assert "--new-category 'Seed packets'" in command and "-e t.tsv.features.npz -t corrections.tsv" in command
    assert "-o t-adapted.keras --predict t-adapted.tsv --report t-adapted.html" in command
    assert opened.text("#records-command").endswith("-o decided")  # no more the published categories alone


def test_a_new_category_may_begin_with_any_sign(opened):
    open_tab(opened, "teach")
    decided, box = {}, opened.one("#ask-finder input")
    ways = {
        "3 Blätter": [("/",), ("3 Blätter",)],
        "(x)": [("(x)",)],
        "<y>": [box.click, ("<y>",)],
        "12 petals": [box.click, ("12 petals",)],
        "No 5": [("No ",), lambda: opened.one("#ask-name").click(), ("5",)],  # begun, left, gone on with
        "80": [("80",)],
        "12 petala": [box.click, ("12 petala", Keys.ARROW_DOWN)],  # so like the other that it is offered first
        "13 petals": [box.click, ("13 petals",)],
    }
    for label, steps in ways.items():
        decided[asked(opened)] = label
        for step in steps:
            step() if callable(step) else press(opened, *step)
        press(opened, Keys.ENTER)
        opened.wait(lambda: opened.text("#figure-taught") == str(len(decided)) and asked(opened) not in decided)
    press(opened, "No ")
    opened.all("#choices button")[1].click()  # what was begun is not about the next image
    opened.wait(lambda: asked(opened) not in decided and opened.text("#figure-taught") == str(len(ways) + 1))
    assert box.get_attribute("value") == ""
    press(opened, "1")
    opened.wait(lambda: opened.text("#figure-taught") == str(len(ways) + 2))
    taught = saved(opened).taught
    assert {name: taught[name] for name in decided} == decided
    opened.one("#tab-apply").click()
    assert ". .venv/bin/activate" in opened.text("#apply") and "make setup" in opened.text("#apply")


def test_any_category_is_found_by_typing_its_first_letters(opened):
    open_tab(opened, "teach")
    decided = {}
    for label in LABELS:  # a letter that did something else would decide about the next image
        decided[asked(opened)] = label
        press(opened, *label.lower()[:5], Keys.ENTER)
        opened.wait(lambda: opened.text("#figure-taught") == str(len(decided)))
    assert saved(opened).taught == decided
    opened.one("#tab-apply").click()
    assert opened.text("#records-command") == "./imagesToTFR.py -t corrections.tsv -o decided --herbariograph"


def test_taking_back_and_skipping(opened, collection):
    open_tab(opened, "teach")
    first = asked(opened)
    press(opened, "s")
    opened.wait(lambda: asked(opened) != first)
    second = asked(opened)
    answer(opened, collection.label(second))
    third = asked(opened)
    assert len({first, second, third}) == 3
    press(opened, Keys.BACKSPACE)
    opened.wait(lambda: asked(opened) == second)
    assert opened.text("#progress") == "0 of 493 looked at"
    press(opened, "z")
    assert opened.shown("#zoomed")
    press(opened, "z")
    assert not opened.shown("#zoomed")
    press(opened, "?")
    assert opened.shown("#help")
    press(opened, Keys.ESCAPE, "/", "qqq", Keys.ESCAPE)  # given up: no new category
    opened.all("#choices button")[1].click()  # and by mouse
    opened.wait(lambda: opened.text("#progress").startswith("1 of 493"))


def test_the_audit_measures_and_is_not_learnt_from(opened, collection):
    from selenium.webdriver.common.by import By

    open_tab(opened, "audit")
    labels = [element.text for element in opened.all("#choices .label")]
    shares = opened.all("#choices .chance, #choices .meter")
    assert sorted(labels) == sorted(LABELS) and not any(share.is_displayed() for share in shares)
    names = []
    for _ in range(20):
        assert [element.text for element in opened.all("#choices .label")] == labels  # which tell nothing
        names.append(asked(opened))
        key = labels.index(collection.label(names[-1]))
        before = asked(opened)
        if key < 9:
            press(opened, str(key + 1))
        else:
            opened.all("#choices button")[key].click()
        opened.wait(lambda before=before: asked(opened) != before)
    places = [collection.names.index(name) for name in names]
    right = int((collection.logits.argmax(axis=1) == collection.true)[places].sum())
    low, high = share_interval(right, 20)
    assert opened.text("#before") == f"{right / 20:.0%}".replace("%", " %")
    interval = opened.one("#before-interval").text
    assert interval == f"95 % interval {round(100 * low)} % to {round(100 * high)} %"
    assert "answers changed" not in opened.text("#progress") and not opened.shown("#after-row")
    open_tab(opened, "teach")
    for _ in range(10):
        answer(opened, collection.label(asked(opened)))
    found = saved(opened)
    assert len(found.taught) == 10 and found.audited == {name: collection.label(name) for name in names}
    expected = collection.taught(found.taught).argmax(axis=1)
    open_tab(opened, "audit")
    after = int((expected == collection.true)[places].sum())
    assert opened.text("#after") == f"{after / 20:.0%}".replace("%", " %")
    assert opened.one("#audit-count").text.startswith("20 of 60 images")
    opened.one("#tab-browse").click()
    assert "40 more kept for the audit" in opened.text("#found")
    assert opened.driver.find_elements(By.CSS_SELECTOR, ".card")


def test_alike_images_and_many_at_once(opened, collection):
    opened.all("#grid .card")[0].click()
    query = opened.run(
        "return JSON.parse(document.querySelector('#data').textContent).names[+document.activeElement.dataset.image]"
    )
    opened.one("#like").click()
    opened.wait(lambda: opened.text("#grid h2").startswith("All images"))
    cards = sorted(opened.all("#grid .card"), key=lambda card: int(card.get_attribute("aria-posinset")))[:10]
    scaled = scale(collection.features, measure([collection.features]))[:, :-1]
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    data = opened.run(
        "const data = JSON.parse(document.querySelector('#data').textContent); return [data.names, data.audited]"
    )
    open_places = [collection.names.index(name) for place, name in enumerate(data[0]) if place not in data[1]]
    cosines = scaled @ scaled[collection.names.index(query)]
    expected = [collection.names[place] for place in sorted(open_places, key=lambda place: -cosines[place])[:10]]
    assert [card.get_attribute("title") for card in cards] == expected and expected[0] == query
    press(opened, Keys.SPACE, Keys.SHIFT + Keys.ARROW_RIGHT * 4)
    assert opened.text("#selected") == "5 images selected"
    press(opened, "/", "Slide", Keys.ENTER)
    opened.wait(lambda: opened.text("#progress").startswith("5 of 493 looked at"))
    assert saved(opened).taught == dict.fromkeys(expected[:5], "Slide")
    opened.one("#undo").click()
    opened.wait(lambda: opened.text("#progress") == "0 of 493 looked at")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_everybody_can_teach(opened, collection, scheme, width):
    opened.look(width, 800, scheme)
    for tab in ("teach", "audit"):
        open_tab(opened, tab)
        opened.all("#choices button")[1].click()
        opened.wait(lambda: "Next:" in opened.text("#ask-said"))
        assert opened.run("return document.documentElement.scrollWidth <= innerWidth"), tab
        assert opened.violations() == [], tab
    opened.one("#tab-apply").click()
    assert opened.violations() == [] and opened.run("return document.documentElement.scrollWidth <= innerWidth")
    assert opened.complaints() == []
