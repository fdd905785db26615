"""Networks that a run compiles by itself: the report says which and why, and no finished work depends on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hcpl_kernel.engines import TOLERANT, get_engine
from hcpl_kernel.engines.compiled_engine import TolerantEngine
from hcpl_kernel.pipeline import compiling, inference, network_passes, plan
from tests.apart_engine import Apart
from tests.pipeline.test_predict import Predict, given_labels, predict, report  # noqa: F401 - the fixture


class ApartTolerant(Apart, TolerantEngine):
    """A device apart from the cores, on which networks are compiled."""

    classifier = TolerantEngine.classifier


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, simulated, on which compiling pays back at once; `torch.compile` gives back what it is given."""
    engines = {TOLERANT: ApartTolerant, "auto": Apart, "torch": Apart}
    for module in (inference, network_passes):
        monkeypatch.setattr(module, "get_engine", lambda name: engines[name]())
    monkeypatch.setattr(plan, "MOST_FIELDS", 1)
    monkeypatch.setattr(compiling, "has_triton", lambda device: True)
    monkeypatch.setattr(compiling, "LEAST", 0.0)
    monkeypatch.setattr(torch, "compile", lambda function: function)


def decisions(tmp_path: Path) -> dict[str, tuple[str, str]]:
    return {name: (facts["compiled"][:3], facts["engine"]) for name, facts in report(tmp_path)["networks"].items()}


def test_what_pays_back_is_compiled_and_nothing_finished_is_made_again(
    predict: Predict,  # noqa: F811
    fields: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert predict(fields, *given_labels(fields), "--strict") == 0
    found = decisions(tmp_path)
    assert found["dsa_efficientnet"] == ("yes", TOLERANT)
    assert found["clh_efficientnet"] == ("no:", "auto")
    assert "it hooks parts into its base" in report(tmp_path)["networks"]["clh_efficientnet"]["compiled"]

    monkeypatch.setattr(compiling, "LEAST", 1e9)  # the next run decides otherwise
    for engine in ("auto", "torch"):
        (tmp_path / "submission.csv").unlink()
        assert predict(fields, *given_labels(fields), "--engine", engine) == 0
        assert {facts["cells"] for facts in report(tmp_path)["networks"].values()} == {0}


def test_where_compiling_fails_every_network_still_says_what_it_says(
    predict: Predict,  # noqa: F811
    fields: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert predict(fields, *given_labels(fields), "--engine", "torch") == 0
    usual = (tmp_path / "submission.csv").read_bytes()

    def refuse(function: Callable[..., object]) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", refuse)
    assert predict(fields, *given_labels(fields), "--fresh", "--strict") == 1
    assert (tmp_path / "submission.csv").read_bytes() == usual
    told = [text for text in report(tmp_path)["degradations"] if "torch.compile failed (no compiler)" in text]
    assert len(told) == sum(yes == "yes" for yes, _ in decisions(tmp_path).values()) > 0
    assert all(facts["state"] == "done" for facts in report(tmp_path)["networks"].values())


def test_without_a_gpu_nothing_is_decided(
    predict: Predict,  # noqa: F811
    fields: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (inference, network_passes):
        monkeypatch.setattr(module, "get_engine", get_engine)
    assert predict(fields, *given_labels(fields), "--networks", "dsa_efficientnet") == 0
    assert "compiled" not in report(tmp_path)["networks"]["dsa_efficientnet"]
