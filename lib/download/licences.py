"""Licences of images as people write them: addresses, abbreviations, names in words.

What is recognised are Creative Commons' licences and its two tools for the public domain. Anything else, and a text
that names two of them, counts as unknown.
"""

import functools
import re

# What `parse_licences` takes. By the elements of a licence: BY attribution, NC non-commercial, SA share alike, ND no
# derivatives; CC0 is a waiver, PDM (Public Domain Mark) a statement that no rights are known.
KNOWN = ("cc0", "pdm", "by", "by-nc", "by-sa", "by-nd", "by-nc-sa", "by-nc-nd")

_ADDRESS = re.compile(
    r"(?:https?://)?(?:i\.|www\.)?creativecommons\.org/(?:licen[sc]es|publicdomain|l|p)/([a-z-]+)(?:/(\d\.\d))?[^\s)\]>]*",
    re.IGNORECASE,
)
_WORDS = (
    (r"creative[\s_-]*commons", "cc"),
    (r"(?:no|non)[\s_-]*deriv(?:ative|ate|)s?(?:[\s_-]*works?)?", "nd"),
    (r"(?:no|non)[\s_-]*commercial(?:[\s_-]*use)?", "nc"),
    (r"share[\s_-]*alike", "sa"),
    (r"attribution", "by"),
    (r"cc[\s_-]*(?:zero|0)(?![.\d])", "cc0"),
    (r"public[\s_-]*domain[\s_-]*mark|\bpdm\b", "pdm"),
)
_TOKEN = re.compile(r"[a-z0-9]+(?:\.\d)?")
_VERSION = re.compile(r"[1-4]\.[05]")
# What may stand beside a licence without saying anything more.
_FILLERS = {"license", "licence", "international", "unported", "generic", "public", "domain", "dedication", "universal"}


def parse_licences(text):
    """A tuple of licences from `cc0,by,by-nc`. Raises ValueError with a clause about a wrong text."""
    names = tuple(dict.fromkeys(re.sub(r"^cc[\s_-]+", "", name.strip().lower()) for name in text.split(",")))
    for name in names:
        if name not in KNOWN:
            raise ValueError(f"{name!r} is not a licence that can be chosen ({', '.join(KNOWN)})")
    return names


@functools.lru_cache(maxsize=4096)  # an archive says the same of many images
def read_licence(text):
    """Recognise a licence.

    Args:
        text: as it stands in an archive.

    Returns:
        One of `KNOWN`, or None; and the text to keep: the licence's short name, such as `CC BY-NC 4.0`, if the text
        says nothing more than that, else the text itself.
    """
    if re.search(r"all rights reserved", text, re.IGNORECASE):
        return None, text
    addresses = {(_name_of(code.lower()), version or "") for code, version in _ADDRESS.findall(text)}
    rest = _ADDRESS.sub(" ", text)
    tokens = _tokens(rest)
    words, version = _in_words(tokens)
    found = {name for name, _ in addresses} | ({words} if words else set())
    if len(found) != 1 or None in found:
        return None, text
    (name,) = found
    versions = {version for _, version in addresses if version} | ({version} if version else set())
    more = [token for token in tokens if token not in _FILLERS | {"cc", "by", "nc", "sa", "nd", "cc0", "pdm"}]
    more = [token for token in more if not _VERSION.fullmatch(token)]
    if len(versions) > 1 or more:
        return name, text
    return name, " ".join([short_name(name), *versions])


def _tokens(text):
    text = re.sub(r"_(\d)_(\d)", r" \1.\2", text.lower())  # GBIF's CC_BY_4_0
    for pattern, word in _WORDS:
        text = re.sub(pattern, f" {word} ", text)
    return _TOKEN.findall(text.replace("_", " "))


def _in_words(tokens):
    """The licence that tokens name, None for none, and its version, empty for none."""
    version = next((token for token in tokens if _VERSION.fullmatch(token)), "")
    for name in ("cc0", "pdm"):
        if name in tokens:
            return (name if not {"by", "nc", "sa", "nd"} & {*tokens} else None), version
    elements = [element for element in ("by", "nc", "sa", "nd") if element in tokens]
    # "By" alone is a word of English, and so is "no commercial use" without more.
    if "by" in elements and ("cc" in tokens or len(elements) > 1):
        return _name_of("-".join(elements)), version
    return None, ""


def _name_of(code):
    """One of `KNOWN` for the code in an address, whatever the order of its elements; None for another one."""
    if code in ("zero", "mark"):
        return {"zero": "cc0", "mark": "pdm"}[code]
    elements = [element for element in ("by", "nc", "sa", "nd") if element in code.split("-")]
    name = "-".join(elements)
    return name if name in KNOWN and len(elements) == len(code.split("-")) else None


def short_name(name):
    """What one of `KNOWN` is called where its version isn't known."""
    return {"cc0": "CC0", "pdm": "PDM"}.get(name, f"CC {name.upper()}")
