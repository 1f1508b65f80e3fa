"""Pages to look at in a browser: one file each, which holds all it shows and loads nothing.

They are made from plain data; the templates in `lib/display/templates` escape the names of files.
"""

import base64
import hashlib
import os
import time
import unicodedata
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import quote

import jinja2

from lib.storage.files import whole_file
from lib.storage.names import JOINERS, unescape_name
from lib.system.words import counted

MOST_ERRORS = 2_000  # that a page lists

_TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
# The scripts of a page, in their order, by concern.
_SCRIPTS = {
    "evaluation": ("evaluation.js",),
    "prediction": (
        *("data.js", "table.js", "decisions.js", "answers.js", "finder.js", "statistics.js", "ask.js", "browse.js"),
        "app.js",
    ),
}


class Card(NamedTuple):
    """An image on a page.

    Attributes:
        name: as in the tables, see `escape_name`.
        answer: the predicted category.
        probability: of the answer, 0-1; None if unknown.
        second, second_probability: the runner-up; empty and None if unknown.
        picture: the bytes of a WebP; None for no thumbnail.
        problem: the reason for no thumbnail.
        link: the address that the picture links to, see `link_to`; empty for no link.
        true: its true category; empty if unknown.
        larger: the bytes of a larger JPEG; None if there is none.
        rights: its licence and the holder of the rights in it; empty if unknown.
    """

    name: str
    answer: str
    probability: Optional[float]
    second: str = ""
    second_probability: Optional[float] = None
    picture: Optional[bytes] = None
    problem: str = ""
    link: str = ""
    true: str = ""
    larger: Optional[bytes] = None
    rights: str = ""


class Group(NamedTuple):
    """A category on a page: its label, how many images it has, and the `Card`s of those that are shown."""

    label: str
    count: int
    cards: Sequence[Card]


class Cell(NamedTuple):
    """A cell of a confusion matrix: how many images, as a shade of 0 to 4, and as text."""

    count: int
    shade: int
    text: str


class Subject(NamedTuple):
    """The subject of a page.

    Attributes:
        title: the title.
        facts: pairs of text about how the page was made: a name and a value.
        labels: of the categories that an image can be corrected to.
        names: a dictionary of label -> full name, for labels that have one.
        identity: a text that no other page has, under which a browser keeps the corrections.
        moment: the time of its making, as of `time.localtime`; None for now.
    """

    title: str
    facts: Sequence[Tuple[str, str]]
    labels: Sequence[str]
    names: Mapping[str, str] = {}
    identity: str = ""
    moment: Optional[time.struct_time] = None


class Measured(NamedTuple):
    """Measurements on labelled images.

    Attributes:
        figures: pairs of text: a name and a value.
        matrix: for each true category, for each answer, a `Cell`.
        rows: for each category that has images: label, precision, recall, F1, images, average precision.
        calibration_error: the expected calibration error.
        bins: for each step of certainty that has images a dictionary of `left`, `width`, `certainty`, `right` and
            `share`, all in percent.
        absent: labels of categories without images.
        weighted: whether the matrix has weights.
    """

    figures: Sequence[Tuple[str, str]]
    matrix: Sequence[Sequence[Cell]]
    rows: Sequence[tuple]
    calibration_error: float
    bins: Sequence[dict]
    absent: Sequence[str] = ()
    weighted: bool = False


class Teaching(NamedTuple):
    """What a page of predictions learns from its reader with.

    Attributes:
        features: float16 `(cards, width)`, in the order of all groups' cards, each of mean 0 and standard deviation 1
            over the whole folder; NaN for a card without.
        kernel: float32 `(categories, width + 1)`: the model's logits are the product of its rows and an image's
            features and 1. Its categories are the first of the page's labels.
        ridge: of `lib.measures.adaptation.fit`.
        command: texts for the command line that applies what was taught, as a shell reads them: `model`, `features`,
            `stem`, the table's name without its ending, and `ridge`, empty for the default; and `published`, whether
            the model has the 17 categories.
        audited: the names of the images to measure with.
        probabilities: `(cards, categories)`, of the model without what was taught; -1 where unknown.
        counts: `(categories,)`: how many images of the whole folder have each as that model's answer.
    """

    features: Any
    kernel: Any
    ridge: float
    command: Mapping[str, Any]
    audited: Sequence[str]
    probabilities: Any
    counts: Sequence[int]


def write_prediction_page(path, subject, groups, errors, teaching=None, lacking="", decided=()):
    """Write the page of a folder's predictions.

    Args:
        path: the `.html` file, which appears whole or not at all.
        subject: its `Subject`.
        groups: a `Group` for each category, also for those without images.
        errors: pairs of a name and the reason why the file could not be read.
        teaching: `Teaching`; None for a page that can't learn.
        lacking: the reason why it can't, a clause.
        decided: what a person decided: name, category and role.
    """
    cards = [card for group in groups for card in group.cards]
    content = {
        "errors": list(errors),
        "most_errors": MOST_ERRORS,
        "data": {**_data_of(subject, groups, cards, teaching), "decided": list(decided)},
        "by_people": len({card.name for card in cards}.intersection(name for name, _, _ in decided)),
        "small": [card.picture for card in cards],
        "larger": [card.larger for card in cards],
        "teaching": teaching,
        "lacking": lacking,
        "learner": "",
    }
    _write(path, "prediction.html", subject, groups, content)


def _data_of(subject, groups, cards, teaching):
    """What the script of a page of predictions shows, for JSON; most of it is a list with an item for each card."""
    index = {label: place for place, label in enumerate(subject.labels)}
    names = [card.name for card in cards]
    places = {name: place for place, name in enumerate(names)}
    counts = {group.label: group.count for group in groups}
    counts = [counts.get(label, 0) for label in subject.labels]
    answers, chances = [index[card.answer] for card in cards], [card.probability for card in cards]
    of_table, before = answers, counts
    if teaching:
        known = [row if row[0] >= 0 else None for row in teaching.probabilities]
        answers = [own if row is None else int(row.argmax()) for own, row in zip(answers, known)]
        chances = [own if row is None else round(float(row.max()), 4) for own, row in zip(chances, known)]
        before = [*map(int, teaching.counts), *[0] * (len(counts) - len(teaching.counts))]
    return {
        "labels": list(subject.labels),
        "shownLabels": [shown(label) for label in subject.labels],
        "fullNames": [subject.names.get(label, "") for label in subject.labels],
        "counts": counts,
        "countsBefore": before,
        "names": names,
        "shownNames": {place: shown(name) for place, name in enumerate(names) if shown(name) != name},
        "prefix": common_folder(names),
        "answers": answers,
        "answersOfTable": of_table,
        "probabilities": chances,
        "seconds": [index.get(card.second, -1) for card in cards],
        "secondProbabilities": [card.second_probability for card in cards],
        "links": [card.link for card in cards],
        "problems": {place: shown(card.problem) for place, card in enumerate(cards) if card.picture is None},
        "rights": {place: shown(card.rights) for place, card in enumerate(cards) if card.rights},
        "audited": [places[name] for name in teaching.audited if name in places] if teaching else [],
        "modelCategories": len(teaching.kernel) if teaching else 0,
        "ridge": teaching.ridge if teaching else None,
        "command": dict(teaching.command) if teaching else None,
    }


def write_evaluation_page(path, subject, groups, measured, mistakes, corrected=False):
    """Write the page of a model's answers to labelled records.

    Args:
        path, subject: see `write_prediction_page`.
        groups: a `Group` for each true category.
        measured: `Measured`.
        mistakes: `Card`s.
        corrected: whether the cards' names are those of files, so that they can be corrected.
    """
    content = {**measured._asdict(), "mistakes": mistakes, "corrected": corrected}
    _write(path, "evaluation.html", subject, groups, content)


def _write(path, template, subject, groups, content):
    loader, blocks = jinja2.FileSystemLoader(_TEMPLATES), {"trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, **blocks)

    def joined(names):
        return "".join(loader.get_source(environment, name)[0] for name in names)

    stem = os.path.splitext(template)[0]
    style = joined(("page.css", f"{stem}.css"))
    # What the files of a page declare is seen by them all, and by nothing else.
    script = f'"use strict";\n{{\n{joined(_SCRIPTS[stem])}}}\n'
    # Nothing but these two and the pictures, and a worker that the script makes: whatever a file name holds, a browser
    # will not run it.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash_of(style)}'; script-src '{_hash_of(script)}'; "
        "worker-src blob:; base-uri 'none'; form-action 'none'"
    )
    pictures = {}  # as text -> number; filled while the page is made
    environment.filters.update(
        base=lambda name: name[name.rfind("/") + 1 :],
        folder=lambda name, prefix: name[: name.rfind("/") + 1][len(prefix) if name.startswith(prefix) else 0 :],
        counted=counted,
        percent=lambda share: f"{100 * share:.1f}\u00a0%",
        shown=shown,
        base64=_base64,
        number=lambda data: pictures.setdefault(_base64(data), len(pictures)),
    )
    content.update(
        subject=subject,
        labels=subject.labels,
        index={label: place for place, label in enumerate(subject.labels)},
        choices=[{"value": label, "text": shown(label)} for label in subject.labels],
        prefix=common_folder(card.name for group in groups for card in group.cards),
        identity=hashlib.sha256(subject.identity.encode()).hexdigest()[:16],
        date=time.strftime("%Y-%m-%d %H:%M", subject.moment or time.localtime()),
        total=sum(group.count for group in groups),
    )
    if content.get("teaching"):
        content["learner"] = joined(("learn.js",))
    content.update(groups=groups, style=style, script=script, policy=policy, pictures=pictures)
    with whole_file(path) as file:
        file.writelines(environment.get_template(template).generate(content))


def _base64(content):
    """Bytes as text; empty for None."""
    return base64.b64encode(content or b"").decode()


def _hash_of(text):
    """A text's checksum as a content security policy has it."""
    return "sha256-" + _base64(hashlib.sha256(text.encode()).digest())


def shown(text):
    """A text for people: characters that can't be seen, or that turn the direction of others, become their numbers.

    Such as `‹U+202E›`, after which `gnp.exe` would read `exe.png`. Bytes that are not UTF-8 become `\\x` and two
    hexadecimal digits, unless `escape_name` has done so already.
    """
    return "".join(map(_shown, text))


def _shown(character):
    category = unicodedata.category(character)
    if category == "Cs" and 0xDC80 <= ord(character) <= 0xDCFF:
        return f"\\x{ord(character) - 0xDC00:02x}"
    hidden = category in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and character not in JOINERS
    return f"‹U+{ord(character):04X}›" if hidden else character


def link_to(name, page):
    """The address of an image, by its name as in tables, relative to a page that lies at `page`."""
    source = unescape_name(name)
    parent = os.path.realpath(os.path.dirname(source) or ".")
    here = os.path.realpath(os.path.dirname(page) or ".")
    relative = os.path.relpath(os.path.join(parent, os.path.basename(source)), here)
    return "./" + quote(os.fsencode(relative))


def common_folder(names):
    """The folder that all names begin with, and its slash; empty if there is none."""
    same = os.path.commonprefix(list(names))  # noqa: RUF071 - cut at a slash below
    return same[: same.rfind("/") + 1]
