"""What is told on the command line about losses, optimizers and classes."""

import pytest

from lib.measures.recipes import (
    LOSSES,
    OPTIMIZERS,
    Recipe,
    cover,
    parse_bands,
    parse_class_numbers,
    parse_recipe,
    parse_variances,
    parse_weights,
)


def test_every_loss_with_every_optimizer():
    for loss in LOSSES:
        for optimizer in OPTIMIZERS:
            assert parse_recipe(f"{loss}+clr+{optimizer}") == Recipe(loss, optimizer)


@pytest.mark.parametrize("text", ["", "ce", "ce+clr", "ce+aw", "CE+clr+aw", "ce+cosine+aw", "ce+clr+aw+x", "xx+clr+aw"])
def test_other_recipes_are_refused(text):
    with pytest.raises(ValueError, match=r"is not LOSS\+clr\+OPTIMIZER"):
        parse_recipe(text)


def test_numbers_for_each_class():
    assert cover(parse_class_numbers("{1: 2.5, 0: 3}"), 2) == [3, 2.5]
    with pytest.raises(ValueError, match="lacks the class 1"):
        cover({0: 1}, 3)
    with pytest.raises(ValueError, match="has the class 2"):
        cover({0: 1, 1: 1, 2: 1}, 2)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "{0:'a'}", "{0:-1}", "{0:1e999}", "{0.5:1}", "{True:1}", "{-1:1}", "{0:x}", "print()"]
)
def test_what_is_no_number_for_each_class(text):
    with pytest.raises(ValueError, match="is not of the form|something else than a number"):
        parse_class_numbers(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(
            (f"{{0:{value},1:1}}", "not from 1e-30 to 1e30")
            for value in ("1e300", "1e-300", "9e-31", "1.1e30", "5e-324")
        ),
        *(
            (text, "with each class once")
            for text in ("{0:1,1:1,0:5}", "{0:1,0.0:5}", "{1_0:1}", "{0:1_0}", "{0:1_0.5}")
        ),
    ],
)
def test_numbers_for_each_class_that_would_mislead(text, words):
    with pytest.raises(ValueError, match=words):
        parse_class_numbers(text)


def test_three_weights():
    assert parse_weights("[1.0,0,2.5]") == (1.0, 0, 2.5)
    for text in ("[1,2]", "[1,2,3,4]", "[1,2,-3]", "1", "[1,2,x]"):
        with pytest.raises(ValueError, match="is not of the form"):
            parse_weights(text)


def test_numbers_for_each_band():
    assert parse_bands("[127.5,0,-1]") == parse_bands("127.5, 0, -1") == (127.5, 0, -1)
    assert parse_variances("(4,0.5)") == (4, 0.5)
    for text in ("", "[]", "1;2", "nan", "1,inf", "{0:1}"):
        with pytest.raises(ValueError, match="is not of the form"):
            parse_variances(text)
    for text in ("0", "1,0,1", "1,-1,1"):  # which would divide by nothing
        with pytest.raises(ValueError, match="has a number that is not above 0"):
            parse_variances(text)
