"""The documentation says what the scripts do: links, options, defaults, commands."""

import ast
import importlib
import re
import shlex

import pytest
from conftest import ROOT
from documents import PAGES, anchors, blocks, commands, links, option_rows, prose, text_of

from lib.cli.types import existing_directory, existing_file, output_model
from lib.data.categories import CATEGORIES
from lib.measures.losses import LOSSES

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
MODULES = {  # those that are called by `python -m`
    "tools.replay": "adaptImages.md",
    "tools.sample": "sample.md",
    "tools.show_records": "imagesToTFR.md",
    "tools.runs": "trainImagesC.md",
}
HEADINGS = {
    "tools.replay": "A replayed reader",
    "tools.runs": "All runs",
    "tools.show_records": "A look at records",
}
PATHS = ("FILE", "FILES", "DIR", "PREFIX", "IMAGE")

# What is required is said by the table though not by the parser, which leaves it to other options or to a group.
REQUIRED_ELSEWHERE = {"predictImages.py": {"--data", "--output"}, "imagesToTFR.py": {"--data"}}


def page_of(script):
    """The page about a script; two doors share one."""
    return f"docs/{'trainImagesC' if script == 'trainImagesC4096.py' else script[:-3]}.md"


def parser_of(name):
    """The parser of a script or of a module that is called by `python -m`."""
    if name == "trainImagesC4096.py":
        name = "trainImagesC.py"
    return importlib.import_module(re.sub(r"\.py$", "", name)).options()


def actions_of(parser):
    """The options of a parser without `--help`: long name -> (short name or None, action)."""
    found = {}
    for action in parser._actions:
        names = action.option_strings
        if names and "--help" not in names:
            (long,) = (name for name in names if name.startswith("--"))
            short = [name for name in names if not name.startswith("--")]
            found[long] = (short[0] if short else None, action)
    return found


def spellings(value):
    """How a plain default may be written; nothing for one that is not plain."""
    if isinstance(value, tuple):
        return {join.join(map(str, value)) for join in ",:"} | {str(list(value)).replace(" ", "")}
    if isinstance(value, bool) or value is None or not isinstance(value, (int, float, str)):
        return set()
    return {str(value)} if isinstance(value, str) else {str(value), f"{value:g}", f"{value:,}"}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_are_there(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(str(there.resolve().relative_to(ROOT))), target


def test_every_page_and_picture_is_linked():
    targets = {
        ((ROOT / page).parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in links(page)
        if not target.startswith("#")
    }
    there = {(ROOT / page).resolve() for page in PAGES} | {
        path.resolve() for ending in ("png", "jpg", "svg") for path in (ROOT / "docs").glob(f"*.{ending}")
    }
    assert there - {ROOT / "README.md"} <= targets


def test_pictures_are_small():
    for path in (ROOT / "docs").iterdir():
        assert path.stat().st_size < 120_000, path.name


@pytest.mark.parametrize("name", [*SCRIPTS, *MODULES])
def test_the_table_of_options_is_the_parsers(name):
    page = f"docs/{MODULES[name]}" if name in MODULES else page_of(name)
    rows = option_rows(page, HEADINGS.get(name, "Options"))
    actions = actions_of(parser_of(name))
    assert rows and {row[1]: row[0] for row in rows} == {long: short for long, (short, _) in actions.items()}
    assert len(rows) == len(actions), "an option stands there twice"
    for _, long, placeholder, text in rows:
        action = actions[long][1]
        assert bool(placeholder) == (action.nargs != 0), f"{long} takes a value, or does not"
        if action.required or long in REQUIRED_ELSEWHERE.get(name, ()):
            assert "required" in text, long
        if re.search(r"^accepted|^likewise", text):
            continue
        bare, said = text.replace("`", ""), spellings(action.default)
        if said:
            default = "|".join(map(re.escape, said))
            assert re.search(rf"\(({default})[),;.: ]|\b({default}) \([^)]*the default|default ({default})", bare) or (
                re.search(rf"\b({default}) \(.*the default\)", bare)
            ), f"{long} lacks its default, {action.default}"
        for number in re.findall(r"\((\d[\d,.]*)\)", bare):
            assert not said or number in said, f"{long} has another default than {number}"


@pytest.mark.parametrize("name", [*SCRIPTS, *MODULES])
def test_help_tells_the_defaults(name):
    for long, (_, action) in actions_of(parser_of(name)).items():
        said = spellings(action.default)
        if said and "does nothing here" not in action.help:
            text = action.help.replace("%(default)s", str(action.default))
            assert any(re.search(rf"\({re.escape(one)}\b|\({re.escape(one)}[),]", text) for one in said), long


class WrongCallError(Exception):
    """A command that its parser refuses."""


def relaxed(parser, complete):
    """The parser, taking files that are not there; if not `complete`, also calls and options that lack something."""

    def refuse(message):
        raise WrongCallError(message)

    parser.error = refuse
    for action in parser._actions:
        if not complete:
            action.required = False
            action.nargs = "?" if action.nargs is None else action.nargs
        if action.metavar in PATHS or action.type in (existing_file, existing_directory, output_model):
            action.type = str
    for group in parser._mutually_exclusive_groups:
        group.required = group.required and complete
    return parser


def substituted(text, variables):
    """A line of bash with its variables' values, or a word in place of those that are not known."""
    text = re.sub(r"\{#?\}", "1", text)  # what GNU parallel puts there
    text = re.sub(r"\$\((?:[^()]|\([^()]*\))*\)", "something", text)
    return re.sub(r"\$\{?(\w+)(?:\[[^]]*\])?\}?", lambda match: variables.get(match[1], match[1]), text)


def calls(lines):
    """The calls of scripts in lines of bash: (name, arguments)."""
    variables, found = {}, []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        assigned = re.match(r"\s*(?:export )?(\w+)=(?!\()(.*)$", line)
        called = assigned and re.fullmatch(r"\$\((\./.*)\)", assigned[2])
        if assigned and " " not in assigned[2].split("$(")[0]:
            variables[assigned[1]] = "".join(shlex.split(substituted(assigned[2], variables)))
        if called:
            line = called[1]  # whose output is the variable's value
        elif assigned and assigned[1] in variables:
            continue
        words = shlex.split(substituted(line, variables), comments=True)
        for place, word in enumerate(words):
            name = re.sub(r"^\./", "", word)
            if name in SCRIPTS or (word in MODULES and words[place - 1] == "-m"):
                rest = words[place + 1 :]
                ends = [number for number, other in enumerate(rest) if other in ("|", "&&", ";", "&", ">", "2>")]
                found.append((name if name in SCRIPTS else word, rest[: min(ends, default=len(rest))]))
    return found


def complaint(name, arguments, complete=True):
    """What the parser has against a call, None if nothing."""
    try:
        relaxed(parser_of(name), complete).parse_args(arguments)
    except WrongCallError as error:
        return f"{name} {' '.join(arguments)}: {error}"
    return None


def test_calls_are_found_and_refused_if_wrong():
    lines = ["SIZE=96", "LAST=$(ls *)", './convnext.py -a 17 -i $SIZE -o $LAST"/x.keras" ### 1']
    assert calls(lines) == [("convnext.py", ["-a", "17", "-i", "96", "-o", "something/x.keras"])]
    assert complaint(*calls(lines)[0]) is None
    assert calls(["M=$(./convnext.py -a 17 -o x.keras)"]) == [("convnext.py", ["-a", "17", "-o", "x.keras"])]
    assert "--size" in complaint("convnext.py", ["-a", "17", "-o", "x.keras", "--size", "96"])
    assert "required" in complaint("convnext.py", ["-a", "17"])


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_ones_that_the_parsers_take(page):
    found = calls(commands(page))
    assert [wrong for wrong in (complaint(*call) for call in found) if wrong] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_sentences_are_ones_that_the_parsers_take(page):
    spans = re.findall(r"`([^`\n]*\.py [^`\n]*)`", prose(page))
    found = [call for span in spans if "…" not in span for call in calls([span])]
    assert [wrong for wrong in (complaint(*call, complete=False) for call in found) if wrong] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_scripts_own_example_is_one_that_it_takes(name):
    documentation = ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8")))
    example = documentation.split("Example: ")[1].split("\n\n")[0]
    ((called, arguments),) = calls([example])
    assert called == name and complaint(called, arguments) is None


def test_the_losses_are_those_of_the_registry():
    options = {action.dest: action.option_strings[0] for action in parser_of("trainImagesC.py")._actions}
    rows = []
    for name, loss in LOSSES.items():
        meaning = re.sub(r"arXiv:([\d.]+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", loss.meaning)
        parameters = "".join(f"`{options[parameter]}` " for parameter in loss.parameters)
        rows.append(f"| `{name}` | {meaning} | {parameters}|")
    assert re.findall(r"^\| `.*", text_of("docs/trainImagesC.md", "Losses"), re.MULTILINE) == rows


def test_the_commands_of_make_are_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    for page in PAGES:
        for line in [*commands(page), *re.findall(r"`(make [^`\n]*)`", prose(page))]:
            words = line.split()
            if words[:1] == ["make"] and len(words) > 1:
                assert words[1] in targets, (page, line)


def test_the_chain_is_the_one_that_people_run(shared):
    contract = (shared / "contract.md").read_text(encoding="utf-8")
    chain = contract[contract.index("\n## 3. ") :]
    theirs = re.findall(r"^```bash\n(.*?)^```$", chain, re.DOTALL | re.MULTILINE)
    assert len(theirs) >= 5 and blocks("README.md", "The whole chain") == theirs


def test_the_first_command_sorts_a_folder_and_makes_the_page():
    assert commands("README.md")[0].startswith('make predict DATA=images OUTPUT=predictions.tsv OPTIONS="--report ')


def test_the_categories_are_those_of_the_code():
    rows = re.findall(r"^\| (\d+) \| (\w+) \| ([\w ]+?) \|", text_of("docs/categories.md"), re.MULTILINE)
    assert [(int(index), label, name) for index, label, name in rows] == [tuple(category) for category in CATEGORIES]
    short = [part.strip().split(" ", 1) for part in text_of("README.md", "Categories").split(":")[0].split("·")]
    assert [(int(index), label) for index, label in short] == [category[:2] for category in CATEGORIES]


def test_the_published_data_set_is_told_exactly(shared):
    header, *rows, totals = (line.split("\t") for line in (shared / "dataset.tsv").read_text().splitlines())
    institutions = header[1:-1]
    text = text_of("docs/categories.md")

    def counts(name):
        (cell,) = re.findall(rf"^\| {name} \|(?: [\d,]+ \|)? ([^|]* · [^|]*|\w+ [\d,]+[^|]*) \|$", text, re.MULTILINE)
        return {code: int(number.replace(",", "")) for code, number in re.findall(r"(\w+) ([\d,]+)", cell)}

    for name, *numbers, _ in rows:
        assert counts(name) == {code: int(number) for code, number in zip(institutions, numbers) if number != "0"}
    assert counts("All") == dict(zip(institutions, map(int, totals[1:-1])))
