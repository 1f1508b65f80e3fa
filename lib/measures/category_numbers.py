"""Numbers that are given for categories, such as their weights: checked, and put in order.

Without TensorFlow, so that a command line is checked at once.
"""

from lib.errors import UsageError


def numbers_of_categories(numbers, categories, setting):
    """A dictionary with a number for each category -> a list in the categories' order.

    Args:
        numbers: category -> number.
        categories: how many there are.
        setting: the name of the setting that gives the numbers.

    Raises:
        UsageError: a category is missing or unknown.
    """
    missing = sorted(set(range(categories)) - set(numbers))
    surplus = sorted(set(numbers) - set(range(categories)))
    if missing or surplus:
        wrong = f"lacks the class {missing[0]}" if missing else f"has the class {surplus[0]}"
        raise UsageError(f"it {wrong}; each class from 0 to {categories - 1} needs a number.", setting)
    return [numbers[number] for number in range(categories)]
