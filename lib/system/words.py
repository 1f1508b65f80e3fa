"""Numbers in words."""


def counted(number, noun, plural=None):
    """A number of things in words: `1 image`, `2,000 images`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
