"""Time is counted on the monotonic clock, from the call or from the command's start, and a start that cannot be is told."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.pipeline.budget import VARIABLE, TimeBudget, command_started
from hcpl_kernel.pipeline.guarded import POLL, _deadline
from hcpl_kernel.runtime.guard import Board


def test_the_budget_counts_from_the_given_start() -> None:
    budget = TimeBudget(100, time.monotonic() - 70)
    assert 70 <= budget.elapsed < 75
    assert 20 < budget.for_networks <= 27
    assert 0 < budget.for_fields <= 5
    assert TimeBudget(100).elapsed < 5
    assert TimeBudget(None).for_networks == TimeBudget(None).for_fields == float("inf")


def test_the_last_moment_is_before_the_limit_and_networks_end_before_it() -> None:
    for limit in (1, 10, 100, 30_000):
        budget = TimeBudget(limit)
        left = budget.last_moment - time.monotonic()
        assert 0.8 * limit - 0.2 < left < limit
        assert budget.for_networks < left
    assert TimeBudget(None).last_moment is None


def test_a_first_submission_that_is_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    for gone, waits in ((0.70, False), (0.80, True), (0.89, True), (0.91, False)):
        board, budget = Board(), TimeBudget(1.0, 1000.0 - gone)
        deadline = _deadline(budget, board)
        assert (deadline == budget.last_moment) == (gone == 0.70)
        assert (1000.0 < deadline <= 1000.0 + POLL) == waits
        board.note_begun()
        assert _deadline(budget, board) == budget.last_moment
    assert _deadline(TimeBudget(None), Board()) is None


def test_fields_get_their_share_of_what_loading_has_left() -> None:
    late = TimeBudget(100, time.monotonic() - 80)
    assert late.for_fields < 0
    late.begin()
    assert 0.74 * late.for_networks < late.for_fields < 0.76 * late.for_networks


def test_what_writing_took_is_kept_for_the_last_writing() -> None:
    budget = TimeBudget(100)
    before = budget.for_networks
    budget.wrote(10)
    assert before - 18 < budget.for_networks < before - 16


def test_a_command_begins_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{time.time() - 80:.3f}")
    assert 79.9 < TimeBudget(100, command_started()).elapsed < 85


@pytest.mark.parametrize("unset", [None, ""])
def test_a_command_begins_with_its_process(monkeypatch: pytest.MonkeyPatch, unset: str | None) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if unset is not None:
        monkeypatch.setenv(VARIABLE, unset)
    assert 0 < TimeBudget(100, command_started()).elapsed < 3600


def test_a_small_difference_of_clocks_counts_as_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(time.time() + 20))
    assert 0 <= TimeBudget(100, command_started()).elapsed < 5


def test_a_jump_of_the_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = TimeBudget(100)
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert budget.elapsed < 5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("noon", "noon"),
        ("nan", "not a finite number"),
        ("inf", "not a finite number"),
        ("-inf", "not a finite number"),
        ("1e400", "not a finite number"),
        (lambda: str(time.time() + 3600), "s in the future"),
        (lambda: str(time.time() * 1000), "in milliseconds"),
        (lambda: str((time.time() - 3600) * 1000), "in milliseconds"),
        (lambda: str(time.time() * 1e9), "in the future"),
        ("0", "days ago"),
        ("-5", "days ago"),
        (lambda: str(time.monotonic()), "days ago"),
        (" ", "expected the seconds"),
        ("2026-01-01T00:00:00", "2026-01-01T00"),
    ],
)
def test_a_start_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, text: object, found: str) -> None:
    monkeypatch.setenv(VARIABLE, text() if callable(text) else str(text))
    with pytest.raises(SettingsError, match=VARIABLE) as refused:
        command_started()
    assert found in str(refused.value)


@given(st.one_of(st.floats(), st.text(alphabet="0123456789.e+-xinfa", max_size=12)))
def test_any_start_gives_a_finite_time_or_a_refusal(start: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(start))
        try:
            elapsed = TimeBudget(100, command_started()).elapsed
        except SettingsError:
            return
        assert 0 <= elapsed < 40 * 86400
