"""What a person decided, in the rows of a table: it always wins over the model's answer."""

SOURCE = "SOURCE"  # the column that says whose answer a row has
MODEL, PERSON = "model", "person"


def decide(ranking, category):
    """An image's ranking of categories with a person's decision on top.

    Args:
        ranking: pairs of a label and the model's probability, the most probable first.
        category: what the person decided.

    Returns:
        As many pairs. A category that wasn't the model's answer has None as its probability.
    """
    if ranking[0][0] == category:
        return ranking
    return [(category, None), *(pair for pair in ranking if pair[0] != category)][: len(ranking)]
