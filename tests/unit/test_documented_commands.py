"""Every command of README and weights/README: run in a folder like a user's, or read by its own parser."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest

from hcpl_kernel.cli import _parser as build_parser
from hcpl_kernel.cli import main as hcpl
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.models.subset import choose, copy_into
from hcpl_kernel.simulation import simulate_field

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "weights/README.md")

READ_ONLY = {
    r"^(make|pip|eval) ": "installs, or is a shell's",
    r"^kaggle ": "needs an account",
    r"--part |^hcpl assemble": "of several machines; tests/pipeline/test_predict.py runs shares",
    r"^python -m tools\.(train|simulate)": "takes minutes to weeks",
    r"trial": "of a training",
    r"tools\.download_weights|weights convert downloads": "needs the network",
    r"weights subset weights/full|--full weights/full": "needs files that nobody publishes",
    r"^hcpl (demo|bench|doctor)": "has tests of its own",
}
"""What is not run, and why; it is read by the command's own parser."""
FAILS = {"hcpl weights verify weights/full": 1}
"""Commands whose exit code is not 0 in a fresh checkout: the files are missing."""

KAGGLE = {
    ("auth", "login"): set(),
    ("datasets", "create"): {"-p", "-u", "-q", "-t", "-r"},
    ("datasets", "version"): {"-p", "-m", "-q", "-t", "-r", "-d"},
    ("datasets", "status"): set(),
    ("kernels", "push"): {"-p", "-t", "--accelerator", "--no-run"},
    ("kernels", "status"): set(),
    ("kernels", "pull"): {"-p", "-w", "-m"},
    ("competitions", "submit"): {"-f", "-k", "-v", "-m", "-q", "--wait"},
    ("competitions", "submissions"): {"-v", "-q"},
}
"""Commands and options of Kaggle's client 2.2.5, by its documentation (github.com/Kaggle/kaggle-cli, docs/)."""
NEEDED = {("datasets", "version"): {"-m"}, ("competitions", "submit"): {"-m", "-k", "-v", "-f"}}


def blocks(document: str) -> list[str]:
    """The command lines of a document's code blocks, in their order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).replace("\\\n", " ").splitlines()
    commands = [re.sub(r"(^|\s)#.*$", "", line).strip() for line in lines]
    return [part.strip().removeprefix(".venv/bin/") for line in commands if line for part in line.split("&&")]


def inline(document: str) -> list[str]:
    """Whole commands of tools in single backticks of a document's text; those of `hcpl` are in `test_documents.py`."""
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [each.removeprefix(".venv/bin/") for each in re.findall(r"`([^`\n]+)`", text)]
    return [each for each in found if re.match(r"kaggle \w|python -m tools\.(?!train)\w+ .*-", each)]


def reason_not_to_run(command: str) -> str | None:
    return next((why for pattern, why in READ_ONLY.items() if re.search(pattern, command)), None)


class Read(Exception):
    """The arguments were good."""


def read(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command's own parser read its arguments, and end there."""
    main, arguments = resolved(command)
    if main is hcpl:
        build_parser().parse(arguments)
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> NoReturn:
        parse(self, args, namespace)
        raise Read

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
        with pytest.raises((Read, SystemExit)) as ended:
            main(arguments)
    assert ended.type is Read or ended.value.code == 0, command  # type: ignore[union-attr]


def resolved(command: str) -> tuple[Callable[[list[str]], int], list[str]]:
    """What a command line calls, and its arguments."""
    words = shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "1"))
    if words[0] == "hcpl":
        return hcpl, words[1:]
    assert words[:2] == ["python", "-m"], command
    module = import_module(words[2] if (ROOT / f"{words[2].replace('.', '/')}.py").is_file() else f"{words[2]}.__main__")
    return module.main, words[3:]


def check_kaggle(command: str) -> None:
    _, group, verb, *further = shlex.split(command)
    options = {word for word in further if word.startswith("-")}
    assert (group, verb) in KAGGLE, f"{command}: not a command of Kaggle's client"
    assert options <= KAGGLE[group, verb], f"{command}: unknown options {options - KAGGLE[group, verb]}"
    assert NEEDED.get((group, verb), set()) <= options, f"{command}: needs {NEEDED[group, verb]}"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the documents name: two fields, label maps, tables, and a small part of weights/mini as that."""
    (tmp_path / "my_fields").mkdir()
    (tmp_path / "maps").mkdir()
    shutil.copytree(ROOT / "weights" / "full", tmp_path / "weights" / "full")
    copy_into(choose(ROOT / "weights" / "mini", ["dsa_regnety", "cla_resnet"]), tmp_path / "weights" / "mini")
    for name, seed in (("a", 1), ("b", 2)):
        field = simulate_field(seed, shape=(640, 640), pixel_size=0.08)
        for channel, pixels in zip(CHANNELS, field.image, strict=True):
            cv2.imwrite(str(tmp_path / "my_fields" / f"{name}_{channel}.png"), pixels)
        cv2.imwrite(str(tmp_path / "maps" / f"{name}_cells.png"), field.cells.astype(np.uint16))
    (tmp_path / "cell_labels.csv").write_text("ID,cell,Label\na,1,0|16\nb,1,4\n")
    (tmp_path / "labels.csv").write_text("ID,Label\na,0|16\nb,4\n")
    (tmp_path / "groundtruth.csv").write_text("image,height,width,label,mask\n")
    rows = [
        f"{n},{','.join(f'my_fields/{n}_{c}.png' for c in CHANNELS)},{group}" for n, group in (("a", "x"), ("b", "control"))
    ]
    (tmp_path / "files.csv").write_text("\n".join([f"ID,{','.join(CHANNELS)},condition", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands_to_read() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        yield from ((document, command) for command in [*blocks(document), *inline(document)])


@pytest.mark.parametrize(("document", "command"), sorted(set(commands_to_read())))
def test_the_command_itself_reads_what_is_documented(document: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if command.startswith("kaggle "):
        check_kaggle(command)
    elif command.startswith("make "):
        assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif not command.startswith(("pip ", "eval ", "#")):
        read(command, monkeypatch)


@pytest.mark.slow
def test_the_commands_that_can_be_run_do_what_they_say(checkout: Path) -> None:
    run = []
    for document in DOCUMENTS:
        for command in blocks(document):
            if reason_not_to_run(command) is not None:
                continue
            if "hcpl groups" in command:  # the text has the user add a column to a listing
                assert (
                    hcpl(
                        [
                            "predict",
                            "my_fields",
                            *shlex.split("--weights weights/mini --listing files.csv --output out/submission.csv"),
                        ]
                    )
                    == 0
                )
            main, arguments = resolved(command)
            expected = FAILS.get(command, 0)
            assert main(arguments) == expected, command
            run.append(command)
    assert {"hcpl predict", "hcpl export", "hcpl groups", "hcpl score", "hcpl weights", "python -m"} <= {
        " ".join(command.split()[:2]) for command in run
    }
    assert (checkout / "out" / "submission.csv").is_file() and (checkout / "out" / "groups.csv").is_file()
    assert (checkout / "weights" / "two" / "ensemble.json").is_file()


def test_the_kit_of_the_readme_is_built_for_what_is_there(checkout: Path) -> None:
    """The Kaggle steps with the weights that a fresh checkout has, in place of `weights/full`."""
    commands = [command for command in blocks("README.md") if re.search(r"tools\.build_(dataset|notebooks)", command)]
    assert len(commands) == 2
    for command in commands:
        main, arguments = resolved(
            command.replace("weights/full", "weights/mini").replace("hcpl-weights-full", "hcpl-weights-mini")
        )
        assert main(arguments) == 0, command
    assert (checkout / "dist" / "hcpl-weights-mini" / "dataset-metadata.json").is_file()
    assert (checkout / "dist" / "notebook" / "kernel-metadata.json").is_file()
