"""The documents name what exists: files of the repository, verbs and options of the command, extras."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcpl_kernel.cli import _parser as build_parser
from hcpl_kernel.cli._parser import Parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "weights/README.md",
    *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
    *sorted(f"benchmarks/{p.name}" for p in ROOT.glob("benchmarks/*.md")),
)
# Where a path may begin that a document gives in short.
BASES = ("", "hcpl_kernel", "hcpl_kernel/pipeline", "tools", "tools/train", "benchmarks", "tests/unit")
# Written by runs, builds and downloads, or a user's own.
MADE = re.compile(
    r"(\.venv|dist|demo_output|work|out|downloads|my_fields|labels|descriptors|parts|pieces|stamps|logs|reports)(/|$)"
    r"|(WORK|DATA)(/|$)|(check|own|published)\.json$"
    r"|<|\.\./|.*IofN|x_\w+\.png$"
    r"|(submission|cells|sample_submission|files|train|groundtruth)\.csv$"
    r"|(run_report|plan|results|config|state)\.json$|(error|round_\d)\.(txt|npy)$|index\.html$"
)
LOOKS_LIKE_A_PATH = re.compile(r"\.?[A-Za-z0-9_][\w.-]*(/[\w.-]+)*(/|\.(py|md|json|toml|yaml|txt|ipynb|png))")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def in_backticks(text: str) -> Iterator[str]:
    """What single backticks enclose, and the words of it; code blocks are left out."""
    for found in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        yield from (word.strip(",;:()") for word in found.split())


def named_paths(document: str) -> set[str]:
    return {
        name
        for name in in_backticks(text_of(document))
        if LOOKS_LIKE_A_PATH.fullmatch(name) and not MADE.match(name) and not name.startswith("weights/full/")
    }


def exists(name: str) -> bool:
    """Whether a file or folder of this name, or the end of it, is in the repository."""
    if any((ROOT / base / name).exists() for base in BASES):
        return True
    folder, _, last = name.rstrip("/").rpartition("/")
    if folder:
        return any(path.as_posix().endswith(f"/{name.rstrip('/')}") for path in (ROOT / "hcpl_kernel").rglob(last))
    return any(next((ROOT / place).rglob(last), None) is not None for place in ("hcpl_kernel", "tools", "weights"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document: str) -> None:
    missing = sorted(name for name in named_paths(document) if not exists(name))
    assert not missing, f"{document} names {missing}"


def test_every_room_is_in_the_table() -> None:
    rooms = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "hcpl_kernel").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    table = text_of("CONTRIBUTING.md").split("## Rooms")[1].split("Where the layout differs")[0]
    first_columns = {
        name for line in table.splitlines() if line.startswith("|") for name in in_backticks(line.split("|")[1])
    }
    assert rooms - first_columns == {"__init__.py", "__main__.py"}


def commands(text: str) -> Iterator[list[str]]:
    """The words after `hcpl` of every command in backticks or in a code block."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in [*lines, *inline]:
        words = shlex.split(line)
        if words and words[0] in ("hcpl", ".venv/bin/hcpl") and len(words) > 1:
            yield words[1:]


def verb_of(words: list[str]) -> tuple[Parser, list[str]]:
    """The parser of a command's verb, and the words behind it."""
    parser = build_parser()
    while parser.verbs:
        assert words and words[0].split("|")[0] in parser.verbs, f"no verb {words[:1]} in {sorted(parser.verbs)}"
        parser, words = parser.verbs[words[0].split("|")[0]], words[1:]
    return parser, words


def options_of(parser: Parser) -> set[str]:
    return {text for action in parser._actions for text in action.option_strings}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "weights/README.md", "CHANGELOG.md"])
def test_named_commands_exist(document: str) -> None:
    for words in commands(text_of(document)):
        parser, further = verb_of(words)
        unknown = {word.split("=")[0] for word in further if word.startswith("--")} - options_of(parser)
        assert not unknown, f"{document}: hcpl {' '.join(words)}"


def test_the_table_of_options_is_that_of_predict() -> None:
    """Each option that README's tables name exists, and none is left out; those of the example above it count."""
    section = text_of("README.md").split("## On a folder of your own")[1].split("## On Kaggle")[0]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section)) - {"--array"}
    verbs = build_parser().verbs
    wanted = options_of(verbs["predict"]) - {"-h", "--help"}
    others = options_of(verbs["export"]) | options_of(verbs["groups"])  # the section shows these verbs, too
    assert named - (others - wanted) == wanted


def test_every_verb_is_in_the_readme() -> None:
    named = {words[0] for words in commands(text_of("README.md"))}
    assert named == set(build_parser().verbs)


def test_named_extras_exist() -> None:
    setup = ast.parse(text_of("setup.py"))
    value = next(
        k.value for node in ast.walk(setup) if isinstance(node, ast.Call) for k in node.keywords if k.arg == "extras_require"
    )
    extras = set(ast.literal_eval(value))
    named = {
        name for document in ("README.md", "CONTRIBUTING.md") for name in re.findall(r"\[([a-z]+)\]['`]", text_of(document))
    }
    assert named and named <= extras


def test_modules_named_for_python_m_exist() -> None:
    for document in ("README.md", "weights/README.md"):
        for module in re.findall(r"(?:python -m |`)(tools(?:\.\w+)+)", text_of(document)):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"{document}: {module}"
