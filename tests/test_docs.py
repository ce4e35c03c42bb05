"""README and docs/: everything is documented, and what they say exists."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
import typer.main

import carvid
from carvid.cli import app
from carvid.config import Config, load_config, preset_names
from carvid.config.declare import names_of
from carvid.config.old_settings import OLD_SETTINGS
from carvid.exports.export import FORMATS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        README, *PAGES,
        ROOT / "examples/README.md", *sorted((ROOT / "examples").glob("*/README.md")),
        ROOT / "carvid/clip/tiny/README.md", ROOT / "tests/golden/README.md",
        *(ROOT / "configs").glob("*.yaml"),
    )
}  # fmt: skip
"""What is written for people: its path from the root, and its text."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
FILE = re.compile(r"(?<![\w/.~])(?:tools|carvid|tests|configs|notebooks|docs)/[\w+./-]*\w")
DOTTED = re.compile(r"(?<![\w/.])carvid(?:\.[A-Za-z_]\w+)+")
NO_SETTINGS = ("mp4", "jpg", "md", "py")
"""What looks like a setting after a section's name, and ends a file's name."""


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_docs = tool("make_docs")
COMMANDS: dict[str, Any] = dict(make_docs.commands())
SECTIONS: dict[str, type] = get_type_hints(Config)


def fences(text: str, *languages: str) -> Iterator[str]:
    return (body for language, body in FENCE.findall(text) if language in languages)


def spans(text: str) -> list[str]:
    return SPAN.findall(FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


# Everything is documented


@pytest.mark.parametrize("name", make_docs.PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()
    made = make_docs.PAGES[name]().splitlines()
    different = [
        n for n, pair in enumerate(zip(written, made, strict=False), 1) if len({*pair}) > 1
    ]
    assert written == made, f"docs/{name}, line {[*different, -1][0]}: run tools/make_docs.py"


def test_every_setting_has_a_meaning() -> None:
    for section, kind in SECTIONS.items():
        assert kind.__doc__
        assert set(make_docs.field_docs(kind)) == set(names_of(kind)), section
        for name in names_of(kind):
            assert f"| `{section}.{name}` |" in TEXTS["docs/settings.md"]


def test_every_command_and_option_has_a_help_text() -> None:
    assert {"run", "overlay", "view", "davis", "eval", "demo", "config", "info"} <= set(COMMANDS)
    for name, command in COMMANDS.items():
        assert f"`carvid {name}`" in TEXTS["README.md"], "name it in the README's table of commands"
        assert f"\n## {name}\n" in TEXTS["docs/commands.md"]
        assert command.help and (command.epilog or "").startswith("Example: carvid "), name
        for param in command.params:
            assert param.help or getattr(param, "hidden", False), f"{name}: {param.opts}"


def test_every_preset_format_name_and_page_is_told() -> None:
    readme = TEXTS["README.md"]
    for preset in preset_names():
        assert f"`{preset}`" in readme and f"\n### {preset}\n" in TEXTS["docs/settings.md"]
    for name in FORMATS:
        assert f"| `{name}` |" in TEXTS["docs/formats.md"]
    listed = TEXTS["docs/python.md"].split("## All public names")[1]
    for name in carvid.__all__:
        assert f"`{name}`" in listed, f"list carvid.{name} in docs/python.md"
    for page in PAGES:
        if page.name != "README.md":
            assert f"({page.name})" in TEXTS["docs/README.md"] and f"docs/{page.name}" in readme


@pytest.mark.parametrize("name", TEXTS)
def test_no_page_has_marks_of_a_merge(name: str) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", TEXTS[name], re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_begins_with_its_purpose_in_one_line(page: Path) -> None:
    title, empty, purpose, after, *_ = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ") and purpose.endswith(".") and not empty and not after


# What is said exists


@pytest.mark.parametrize("name", TEXTS)
def test_links_and_paths_lead_somewhere(name: str) -> None:
    text, here = TEXTS[name], (ROOT / name).parent
    for target in LINK.findall(FENCE.sub("", text)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (here / file).resolve() if file else ROOT / name
        assert path.exists(), f"{name}: {target}"
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target
    for path in FILE.findall(LINK.sub("", text)):
        assert (ROOT / path).exists(), f"{name}: {path}"


def command_lines(text: str) -> Iterator[list[str]]:
    """The arguments of each `carvid` in the blocks of commands; usage lines are none."""
    for block in fences(text, "bash", ""):
        for line in block.replace("\\\n", " ").splitlines():
            if "carvid " not in line or "[OPTIONS]" in line or line.startswith(('"', "{")):
                continue
            words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;")
            words.whitespace_split = True
            part: list[str] = []
            for word in [*words, ";"]:
                if word.strip("|&;"):
                    part.append(word)
                    continue
                if part[:1] == ["carvid"]:
                    yield part[1:]
                part = []


def chosen(words: list[str]) -> tuple[str, list[str]]:
    """The command that words begin with, "" if none, and the words after it."""
    for count in (2, 1):
        if (name := " ".join(words[:count])) in COMMANDS:
            return name, words[count:]
    return "", words


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".md")])
def test_command_lines_parse(name: str) -> None:
    for words in command_lines(TEXTS[name]):
        command, rest = chosen(words)
        assert command, f"{name}: carvid {' '.join(words)}: no such command"
        try:
            COMMANDS[command].make_context(command, list(rest))
        except Exception as error:
            pytest.fail(f"{name}: carvid {' '.join(words)}: {error}")


def test_a_wrong_command_line_would_be_seen() -> None:
    [words] = command_lines(
        "```bash\nmake-film | carvid run - --expr dog --no-such x  # words\n```"
    )
    assert words == ["run", "-", "--expr", "dog", "--no-such", "x"]
    with pytest.raises(Exception, match="--no-such"):
        COMMANDS["run"].make_context("run", words[1:])


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".md")])
def test_options_in_sentences_exist(name: str) -> None:
    root = typer.main.get_command(app)
    known = {
        command: {"--help", *(name for each in group.params for name in each.opts)}
        | {name for each in group.params for name in each.secondary_opts}
        for command, group in {"": root, **COMMANDS}.items()
    }
    tools = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tools").glob("*.py"))
    for span in spans(TEXTS[name]):
        words = span.split()
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        if words[0] == "carvid" and len(words) > 1:
            command, _ = chosen(words[1:])
            assert command or words[1].startswith(("-", "…")) or words[1].isupper(), span
            assert given <= known[command], f"{name}: {span}"
        elif words[0].startswith("--"):
            for option in given - set().union(*known.values()):
                of_tool = option.removeprefix("--no").strip("-").replace("-", "_")
                assert option in tools or re.search(rf"\b{of_tool}: Annot", tools), span


@pytest.mark.parametrize("name", TEXTS)
def test_settings_exist(name: str) -> None:
    text = TEXTS[name]
    coded = "\n".join([*spans(text), *(body for _, body in FENCE.findall(text))])
    for section, key in re.findall(rf"(?<![\w/.])({'|'.join(SECTIONS)})\.([a-z]\w+)", coded):
        known = names_of(SECTIONS[section])
        old = f"{section}.{key}" in OLD_SETTINGS
        assert key in known or old or key in NO_SETTINGS, f"{name}: {section}.{key}"
    for change in re.findall(r"--set ((?!section)[a-z]+\.[a-z]\w+=[\w.,/-]+)", text):
        load_config(Config(), [change])
    for change in re.findall(r"--style ([a-z]\w+=[\w.-]+)", text):
        load_config(Config(), [f"overlay.{change}"])


def resolve(dotted: str) -> Any:
    """What a dotted name that begins with carvid stands for."""
    found: Any = carvid
    for part in dotted.split(".")[1:]:
        if isinstance(found, ModuleType) and found is not carvid and not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        elif found is carvid and part not in carvid.__all__:
            importlib.import_module(f"carvid.{part}")
        found = getattr(found, part)
    return found


SNIPPETS = [(name, n, code) for name, text in TEXTS.items()
            for n, code in enumerate(fences(text, "python"))]  # fmt: skip


@pytest.mark.parametrize(("name", "n", "code"), SNIPPETS, ids=[f"{a}-{n}" for a, n, _ in SNIPPETS])
def test_python_snippets_compile_and_name_what_exists(name: str, n: int, code: str) -> None:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("carvid"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, each.name) for each in node.names), ast.unparse(node)
        elif isinstance(node, ast.Attribute) and DOTTED.fullmatch(ast.unparse(node)):
            assert ast.unparse(node).split(".")[1] in carvid.__all__, ast.unparse(node)
            resolve(ast.unparse(node))
        elif isinstance(node, ast.Call) and DOTTED.fullmatch(ast.unparse(node.func)):
            known = inspect.signature(resolve(ast.unparse(node.func))).parameters
            assert {each.arg for each in node.keywords} <= set(known), ast.unparse(node)


@pytest.mark.parametrize("name", TEXTS)
def test_dotted_names_exist(name: str) -> None:
    for dotted in re.findall(
        r"(?<![\w/.])carvid(?:\.[A-Za-z_]\w+)+", "\n".join(spans(TEXTS[name]))
    ):
        resolve(dotted)
