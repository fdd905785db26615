"""What a run says about how far it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hcpl_kernel.pipeline.progress import Progress, spoken

ORDER: Any = [SimpleNamespace(name="one", gmac=1.0), SimpleNamespace(name="two", gmac=2.0)]


def run(quiet: bool = False) -> None:
    now = [0.0]
    with Progress(3000, ORDER, quiet, clock=lambda: now[0]) as progress:
        for _ in range(300):
            now[0] += 4
            progress.segmented(10)
        progress.predicted("one", 3000)


def test_without_a_terminal_a_forecast_and_then_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "3,000 fields will take about 1 h 20 min on this machine"
    assert len(lines) == 1 + 1200 // 60 - 1
    assert lines[1] == "45 of 3,000 fields (2 %), segmenting: 72 s gone, about 79 min left".replace("79 min", "1 h 19 min")


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    run(quiet=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "4 s"), (1500, "25 min"), (3600, "1 h"), (12000, "3 h 20 min"), (190000, "2 days 5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert spoken(seconds) == text
