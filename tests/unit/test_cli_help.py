"""Help with examples that are right, completion, and what is said before a result is replaced."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from hcpl_kernel.cli import _parser, main
from hcpl_kernel.cli.predict import _tell_what_limit_replaces
from hcpl_kernel.settings import PredictSettings

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("verb", ["predict", "export", "groups", "completion"])
def test_the_examples_of_the_help_are_read(verb: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    examples = capsys.readouterr().out.split("examples:\n")[1].splitlines()
    assert examples
    for line in examples:
        if verb != "completion":
            assert _parser().parse(shlex.split(line)[1:]).verb


def completed(line: str, tmp_path: Path, capsys: Capture) -> list[str]:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    words = [*line.split(" ")]
    script.write_text(
        capsys.readouterr().out
        + f"\nCOMP_WORDS=({shlex.join(words)})\nCOMP_CWORD={len(words) - 1}\n_hcpl\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    )
    return subprocess.run(["bash", str(script)], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hcpl pre", ["predict"]),
        ("hcpl predict --chan", ["--channels"]),
        ("hcpl predict x --resolution pap", ["paper-half"]),
        ("hcpl weights ver", ["verify"]),
        ("hcpl completion f", ["fish"]),
    ],
)
def test_bash_completes(line: str, expected: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert completed(line, tmp_path, capsys) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_for_other_shells(shell: str, capsys: Capture) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "channels" in script and "paper-half" in script and "verify" in script


def test_limit_says_what_it_replaces(tmp_path: Path, capsys: Capture) -> None:
    work = tmp_path / "s_work"
    work.mkdir()
    (tmp_path / "s.csv").touch()
    (work / "results.json").write_text(json.dumps({"fields": 60}))
    settings = PredictSettings(tmp_path, tmp_path, tmp_path / "s.csv", limit=3)
    _tell_what_limit_replaces(settings)
    assert "holds 60 fields and will be replaced by 3" in capsys.readouterr().out
    _tell_what_limit_replaces(PredictSettings(tmp_path, tmp_path, tmp_path / "other.csv", limit=3))
    (work / "results.json").write_text("[]")
    _tell_what_limit_replaces(settings)
    assert capsys.readouterr().out == ""
