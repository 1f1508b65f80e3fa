"""The documentation as data: its pages, their headings, links, commands and tables of options."""

import re

from conftest import ROOT

PAGES = sorted(
    str(path.relative_to(ROOT)) for folder in (".", "docs", "benchmarks") for path in (ROOT / folder).glob("*.md")
)


def text_of(page, heading=None):
    """A page's text, or what stands below one of its second-level headings."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return text if heading is None else text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(page, heading=None, language="bash"):
    """The text of each fenced block of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page, heading), re.DOTALL | re.MULTILINE)


def commands(page, heading=None):
    """The lines of all fenced blocks of bash."""
    return [line for block in blocks(page, heading) for line in block.splitlines()]


def prose(page):
    """A page's text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """What the page's headings can be linked by, as GitHub makes it of them."""
    found = []
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title).lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return found


def links(page):
    """The targets of a page's links and pictures that are no address of the web."""
    return re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose(page))


def option_rows(page, heading="Options"):
    """The rows of a table of options: (short or None, long, placeholder or "", explanation)."""
    rows = re.findall(r"^\| `(?:-(\w) )?--([\w-]+)` ?(.*?) \| (.*) \|$", text_of(page, heading), re.MULTILINE)
    return [(f"-{short}" if short else None, f"--{long}", *rest) for short, long, *rest in rows]
