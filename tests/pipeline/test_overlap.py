"""Networks on a device of its own: they run while fields are cut, and say what they say one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hcpl_kernel.pipeline import inference, network_passes, plan
from hcpl_kernel.pipeline.field_work import FieldWork
from hcpl_kernel.pipeline.inference import Predictor
from hcpl_kernel.runtime.process_tuning import torch_threads
from tests.apart_engine import Apart
from tests.pipeline.test_predict import Predict, given_labels, predict, report  # noqa: F401 - the fixture


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on networks run on a device of their own; with equal batches, results are equal to the bit."""
    monkeypatch.setattr(inference, "GPU_BATCH", inference.CPU_BATCH)
    monkeypatch.setattr(plan, "MOST_FIELDS", 1)  # three shards

    def begin() -> None:
        for module in (inference, network_passes):
            monkeypatch.setattr(module, "get_engine", lambda name: Apart())

    return begin


def test_the_submission_is_the_same_to_the_byte(
    predict: Predict,  # noqa: F811
    fields: Path,
    tmp_path: Path,
    apart: Callable[[], None],
) -> None:
    with torch_threads(1):  # sums in float32 depend on how many threads share one
        assert predict(fields, *given_labels(fields)) == 0
        one_after_the_other = (tmp_path / "submission.csv").read_bytes()
        apart()
        assert predict(fields, *given_labels(fields), "--fresh") == 0
    assert (tmp_path / "submission.csv").read_bytes() == one_after_the_other
    networks = report(tmp_path)["networks"]
    assert {facts["cells"] for facts in networks.values()} == {report(tmp_path)["counts"]["cells"]}


@pytest.mark.parametrize("limit", [(), ("--time-limit", "1h")])
def test_networks_see_the_first_shards_while_others_are_cut(
    predict: Predict,  # noqa: F811
    fields: Path,
    apart: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    limit: tuple[str, ...],
) -> None:
    apart()
    seen = threading.Event()
    finish, look = FieldWork.finish, Predictor.predict

    def finish_after_a_network(self: FieldWork, files: Any, *rest: Any) -> Any:
        if files.id == "c":
            assert seen.wait(60)  # a network has seen another field before this one is cut
        return finish(self, files, *rest)

    def note(self: Predictor, *arguments: Any) -> Any:
        seen.set()
        return look(self, *arguments)

    monkeypatch.setattr(FieldWork, "finish", finish_after_a_network)
    monkeypatch.setattr(Predictor, "predict", note)
    assert predict(fields, *given_labels(fields), *limit) == 0
