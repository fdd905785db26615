"""One bad input costs itself and is named; its neighbours are predicted."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from .conftest import SIDE, Case, has_cells, one_error_line, write_png


def test_memory_that_runs_out_for_one_field_on_a_cpu_costs_that_field(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.add("a")
    case.add("large", image=np.tile(case.field.image, (1, 2, 2)), labels=np.tile(case.field.cells, (2, 2)))
    original = torch.nn.functional.conv2d

    def conv2d(images: torch.Tensor, *arguments: Any, **keywords: Any) -> torch.Tensor:
        if max(images.shape[-2:]) > SIDE + 64:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")
        return original(images, *arguments, **keywords)

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    assert case.predict(segment=True) == 0
    assert "memory" in case.problems["large"] and list(case.problems) == ["large"]
    assert case.report["counts"]["cells"] > 0


@pytest.mark.parametrize("name", [b"bad\xff", b"tab\tname", b"line\nend"])
def test_a_bad_name_is_named_and_its_neighbour_predicted(case: Case, name: bytes) -> None:
    case.add("a")
    for channel in ("red", "green", "blue", "yellow"):
        shutil.copy(case.fields / f"a_{channel}.png", os.fsencode(case.fields) + b"/" + name + f"_{channel}.png".encode())
    assert case.predict() == 0
    assert has_cells(case.rows["a"])
    text = json.dumps(case.report)
    assert any(part in text for part in ("bad", "tab", "line"))
    assert case.predict("--strict") == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [("", None), (",,,,", None), (",a_red.png,a_green.png,a_blue.png,a_yellow.png", "ID"), ("b\x01,r,g,b,y", "b")],
)
def test_a_bad_row_of_a_listing_costs_itself(case: Case, line: str, problem: str | None) -> None:
    case.add("a")
    listing = case.fields / "listing.csv"
    listing.write_text(f"ID,red,green,blue,yellow\na,a_red.png,a_green.png,a_blue.png,a_yellow.png\n{line}\n")
    assert case.predict("--listing", str(listing), "--strict") == (0 if problem is None else 1)
    assert has_cells(case.rows["a"])


def test_quotes_commas_and_line_ends_in_ids_are_csv(case: Case) -> None:
    names = ['q"uote', "com,ma", "=sum"]
    for name in names:
        case.add(name)
    assert case.predict() == 0
    with open(case.work / "cells.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert {row[0] for row in rows[1:]} == set(names)
    assert {len(row) for row in rows} == {len(rows[0])}
    assert set(case.rows) == set(names)


def broken(values: dict[str, Any], change: str, outside: Path) -> object:
    network = values["networks"][0]
    if change == "networks is a number":
        values["networks"] = 5
    elif change == "no cost":
        network["gmac"] = 0
    elif change == "cost is a text":
        network["gmac"] = "1"
    elif change == "name leaves the folder":
        network["name"] = f"../../{outside.name}"
    elif change == "absolute name":
        network["name"] = str(outside)
    elif change == "colliding names":
        values["networks"] = [network, {**network, "name": network["name"].upper()}, dict(network)]
    elif change == "null":
        network["input_size"] = None
    elif change == "list":
        return [values]
    elif change == "size is a fraction":
        network["input_size"] = 96.5
    elif change == "no networks":
        values["networks"] = []
    return values


CHANGES = (
    "networks is a number",
    "no cost",
    "cost is a text",
    "name leaves the folder",
    "absolute name",
    "colliding names",
    "null",
    "list",
    "size is a fraction",
    "no networks",
)


@pytest.mark.parametrize("change", CHANGES)
def test_an_ensemble_file_is_checked_before_anything_runs(
    case: Case, capsys: pytest.CaptureFixture[str], tmp_path: Path, change: str
) -> None:
    case.add("a")
    case.weights = shutil.copytree(case.weights, tmp_path / "changed")
    path = case.weights / "ensemble.json"
    outside = tmp_path / "outside"
    path.write_text(json.dumps(broken(json.loads(path.read_text()), change, outside)))
    assert case.predict() == 2
    assert "ensemble.json" in one_error_line(capsys)
    assert set(case.rows) == {"a"}  # the fallback
    assert not outside.exists()


def test_a_black_field_says_so(case: Case) -> None:
    case.add("a", labels=np.zeros_like(case.field.cells))
    write_png(case.fields / "a_blue.png", np.zeros((SIDE, SIDE), np.uint8))
    assert case.predict("--strict", segment=True) == 1
    assert case.report["problems"] or case.report.get("warnings") or case.report["degradations"]
