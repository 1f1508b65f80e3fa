"""The log of a search: what is read from it, and what is refused."""

import dataclasses
import json
import math
import re

import pandas
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.errors import UsageError
from lib.training.changes import CHANGES
from lib.training.hyperparameters import (
    AUGMENTATION_KEYS,
    KEYS,
    PRESETS,
    Augmentation,
    Hyperparameters,
    Row,
    best_row,
    format_settings,
    parse_augmentation,
    parse_settings,
    ranges_of,
    read_log,
    write_log,
)

PUBLISHED = {
    **dict.fromkeys(("leftRight", "upDown", "rotateOne", "rotateTwo", "rotateThree", "shearX", "shearY"), 0.0),
    **dict.fromkeys(("translateX", "translateY", "GaussianNoise", "invert", "solarizeAdd", "mixup"), 0.0),
    **dict.fromkeys(("shearXproportion", "shearYproportion", "translateXproportion", "translateYproportion"), 0.1),
    **dict.fromkeys(("GaussianNoiseSDmax", "solarizeAddition", "solarizeAddThreshold"), 0.1),
    "resizeRatioLow": 1.33,
    "resizeRatioHigh": 0.75,
    "resizeScaleLow": 1.0,
    "resizeScaleHigh": 0.08,
    "batch": 5,
    "clrStep": 4,
    "learningRate": 0.005,
    "distillTemperature": 12.5,
    "weightDecay": 1e-5,
}


def log(folder, *lines, header="ITERATION\tSETTINGS\tF1"):
    (folder / "optimization-log.tsv").write_text("\n".join([header, *lines]) + "\n")
    return str(folder)


def test_the_published_settings_whichever_end_is_called_low(tmp_path):
    (row,) = read_log(log(tmp_path, f"1\t{json.dumps(PUBLISHED)}\t1.0"))
    assert row == Row("1", Hyperparameters(), 1.0) and row.settings.batch == 32
    assert (row.settings.ratio_low, row.settings.scale_high) == (0.75, 1.0)


def test_the_log_that_comes_with_the_project_is_the_published_one():
    (row,) = read_log(ROOT / "manual")
    assert row.settings == parse_settings(json.dumps(PUBLISHED)) and row.f1 == 1.0


def test_the_first_of_equal_best_rows(tmp_path):
    texts = [json.dumps({**PUBLISHED, "batch": batch}) for batch in (1, 2, 3)]
    rows = read_log(log(tmp_path, f"a\t{texts[0]}\t0.5", f"b\t{texts[1]}\t0.75", f"c\t{texts[2]}\t0.75"))
    assert best_row(rows).iteration == "b" and best_row(rows).settings.batch_power == 2


def test_what_is_written_is_read_by_us_and_by_others(tmp_path):
    rows = (Row("0", Hyperparameters(), 0.1), Row("1", Hyperparameters(invert=0.25, batch_power=3), 1 / 3))
    write_log(tmp_path, rows)
    assert read_log(tmp_path) == rows
    table = pandas.read_csv(tmp_path / "optimization-log.tsv", sep="\t")
    assert json.loads(table.SETTINGS[1])["invert"] == 0.25 and table.F1[1] == pytest.approx(1 / 3)
    table.to_csv(tmp_path / "optimization-log.tsv", sep="\t", index=False)  # which puts quotes around the JSON
    assert '""invert""' in (tmp_path / "optimization-log.tsv").read_text()
    assert [row.settings for row in read_log(tmp_path)] == [row.settings for row in rows]


def test_the_keys_include_those_of_the_published_log():
    assert set(json.loads(format_settings(Hyperparameters()))) == set(KEYS) >= set(PUBLISHED)


def test_changes_that_a_log_lacks_are_off(tmp_path):
    needed = {name: value for name, value in PUBLISHED.items() if KEYS[name].needed}
    assert {"batch", "learningRate", "resizeScaleLow"} < set(needed) and "blur" not in PUBLISHED
    (row,) = read_log(log(tmp_path, f"1\t{json.dumps({**needed, 'invert': 0.5})}\t1.0"))
    assert row.settings == Hyperparameters(invert=0.5)
    for change in CHANGES:
        assert getattr(row.settings, change.name) == (0.5 if change.name == "invert" else 0.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 5.5}, "'batch' the value 5.5, not a whole number from 0 to 20"),
        ({"batch": True}, "'batch'"),
        ({"leftRight": 1.1}, "'leftRight' the value 1.1, not a number from 0 to 1"),
        ({"invert": "0.5"}, "'invert'"),
        ({"learningRate": 0}, "'learningRate' the value 0, not a number above 0, up to 1"),
        ({"distillTemperature": math.nan}, "'distillTemperature'"),
        ({"mixup": None}, "'mixup'"),
        ({"learningRate": ...}, "without 'learningRate'"),
    ],
)
def test_settings_that_are_none(tmp_path, change, words):
    text = json.dumps({key: value for key, value in {**PUBLISHED, **change}.items() if value is not ...})
    with pytest.raises(UsageError, match=f"optimization-log.tsv line 3 .*{re.escape(words)}"):
        read_log(log(tmp_path, f"1\t{json.dumps(PUBLISHED)}\t1.0", f"2\t{text}\t1.0"))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["1\t{}"], "line 2 lacks one of the columns ITERATION, SETTINGS, F1"),
        (["1\t[1]\t1.0"], "not a JSON object"),
        (["1\t{\t1.0"], "not a JSON object"),
        ([f"1\t{json.dumps(PUBLISHED)}\tbest"], "the F1 'best'"),
        ([f"1\t{json.dumps(PUBLISHED)}\tnan"], "the F1 'nan'"),
        ([], "has no rows"),
    ],
)
def test_a_log_that_is_none(tmp_path, lines, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        read_log(log(tmp_path, *lines))


def test_no_log_and_another_header(tmp_path):
    with pytest.raises(UsageError, match="optimization-log.tsv can't be read as a table"):
        read_log(tmp_path)
    with pytest.raises(UsageError, match="needs a header with the columns ITERATION, SETTINGS, F1"):
        read_log(log(tmp_path, header="A\tB\tC"))
    other = log(tmp_path, f"0.5\tx\t1\t{json.dumps(PUBLISHED)}", header="F1\tNOTE\tITERATION\tSETTINGS")
    assert read_log(other)[0].f1 == 0.5


def test_ranges():
    ranges = ranges_of('{"invert": [0, 0.5], "batch": [3, 6], "mixup": 1}')
    assert ranges == {"invert": (0, 0.5), "batch": (3, 6), "mixup": (1, 1)}
    for text, words in (
        ("[]", "not a JSON object"),
        ("{", "is not JSON"),
        ('{"inverted": [0, 1]}', "the key 'inverted'; the log's are leftRight, "),
        ('{"invert": [0, 2]}', "'invert' the value 2"),
        ('{"invert": [0.5, 0.1]}', "above the highest"),
        ('{"invert": [0, 0.1, 0.2]}', "3 numbers"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            ranges_of(text)


def test_the_documentation_has_every_key_and_its_ranges():
    text = (ROOT / "docs" / "optimization-log.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    published = json.loads(format_settings(Hyperparameters()))
    assert [row[0] for row in rows] == [f"`{name}`" for name in KEYS]
    for row, key in zip(rows, KEYS.values()):
        low, high = key.range
        assert row[1].startswith(key.meaning)
        assert row[2] == f"{published[key.name]:g}"
        assert row[3] == f"{'above ' if key.positive else ''}{key.lowest:g} to {key.highest:g}"
        assert row[4] == (f"{low:g}" if low == high else f"{low:g} to {high:g}")


def test_the_documentation_has_the_order_of_the_changes_and_the_presets():
    text = " ".join((ROOT / "docs" / "optimization-log.md").read_text().split())
    assert f"applied in this order: {', '.join(change.key for change in CHANGES)}; then" in text
    page = " ".join((ROOT / "docs" / "trainImagesC.md").read_text().split())

    def listed(preset, keys):
        return ",".join(f"{key.name}={getattr(preset, key.attribute):g}" for key in keys)

    keys, published = AUGMENTATION_KEYS.values(), Augmentation()
    assert not any(getattr(published, AUGMENTATION_KEYS[change.key].attribute) for change in CHANGES)
    others = [key for key in keys if key.name == "mixup" or key.name.startswith("resize")]
    assert f"| `published` | no changes, `{listed(published, others)}` |" in page
    for name in {*PRESETS} - {"published"}:
        own = [key for key in keys if getattr(PRESETS[name], key.attribute) != getattr(published, key.attribute)]
        assert f"| `{name}` | `{listed(PRESETS[name], own)}` |" in page


def test_an_augmentation_is_a_preset_or_keys_or_both():
    assert parse_augmentation("published") == PRESETS["published"] == Augmentation()
    assert parse_augmentation("small") == PRESETS["small"] != Augmentation()
    assert parse_augmentation("mixup=0,leftRight=0.5") == Augmentation(mixup=0, left_right=0.5)
    mixed = parse_augmentation("small,resizeScaleHigh=0.1,resizeScaleLow=0.9")
    assert mixed == dataclasses.replace(PRESETS["small"], scale_low=0.1, scale_high=0.9)
    for text, words in (
        ("", "'' is not KEY=NUMBER with a key of leftRight, "),
        ("large", "'large' is not KEY=NUMBER"),
        ("blur=0.1,small", "'small' is not KEY=NUMBER"),
        ("batch=3", "'batch=3' is not KEY=NUMBER"),
        ("blur", "'blur' is not KEY=NUMBER"),
        ("blur=x", "gives 'blur' the value 'x', not a number from 0 to 1"),
        ("blur=nan", "gives 'blur' the value nan"),
        ("small,mixup=1.5", "gives 'mixup' the value 1.5"),
        ("resizeScaleLow=0", "gives 'resizeScaleLow' the value 0.0, not a number above 0"),
        ("blur=0.1,blur=0.2", "gives 'blur' twice"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            parse_augmentation(text)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.dictionaries(st.sampled_from(list(KEYS)), any_json))
def test_any_json_is_settings_or_refused_in_a_clause(changes):
    for values in (changes, {**PUBLISHED, **changes}):
        for parse in (parse_settings, ranges_of):
            try:
                found = parse(json.dumps(values))
            except ValueError as error:
                assert type(error) is ValueError and str(error)
            else:
                assert isinstance(found, (dict, Hyperparameters))
    assert parse_settings(json.dumps(PUBLISHED)) == Hyperparameters()


def test_json_that_python_itself_gives_up_on():
    for text in ("[" * 100_000, json.dumps({**PUBLISHED, "batch": 10**400}), '{"batch": ' + "9" * 5000 + "}"):
        for parse in (parse_settings, ranges_of):
            with pytest.raises(ValueError, match=r"not JSON|JSON object|SETTINGS|gives 'batch'|the key") as error:
                parse(text)
            assert len(str(error.value)) < 800
