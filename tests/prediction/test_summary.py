"""A table in one line."""

import pytest

from lib.prediction.summary import summarise, tell_outcome


def lines(*rows, header="FILE\tPREDICTION\tPROBABILITY"):
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (lines("a\tLive\t0.5"), "1 image: 1 Live; 0 % with a probability below 40 %."),
        (
            lines("a\tText\t0.39", "b\tLive\t0.4", "c\tText\t0.9"),
            "3 images: 2 Text, 1 Live; 33 % with a probability below 40 %.",
        ),
        (
            lines("a\tText\t0.3", "b\tLive\t"),  # the latter a person's
            "2 images: 1 Live, 1 Text; 100 % with a probability below 40 %.",
        ),
        (lines("a\tText\t"), "1 image: 1 Text."),
        (
            lines(*(f"{number}\tc{number:02d}\t1" for number in range(22))),
            (
                f"22 images: {', '.join(f'1 c{number:02d}' for number in range(20))}, 2 in 2 others"
                "; 0 % with a probability below 40 %."
            ),
        ),
        (lines(), ""),
        (lines("a\tLive", header="FILE\tPREDICTION"), ""),
    ],
)
def test_how_many_images_are_in_each_category_and_how_many_are_doubtful(tmp_path, text, said):
    (tmp_path / "t.tsv").write_text(text)
    assert summarise(str(tmp_path / "t.tsv"))[1] == said


@pytest.mark.parametrize(
    ("images", "errors", "said"),
    [
        (2, 0, "2 images categorised, no errors."),
        (1, 1, "1 image categorised, 1 error, listed in t.tsv.errors.tsv; 1 row kept from a former call."),
    ],
)
def test_the_outcome_tells_of_rows_without_a_file(tmp_path, monkeypatch, caplog, images, errors, said):
    caplog.set_level("INFO")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.tsv").write_text(lines("a\tLive\t0.5", "b\tLive\t0.5"))
    tell_outcome("t.tsv", images, errors)
    assert caplog.messages[-1] == said
