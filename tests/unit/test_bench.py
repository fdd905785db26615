"""The benchmark: timing, counting, projecting, planning, and the command on small networks."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hcpl_kernel.bench import command, figures
from hcpl_kernel.bench.counting import Operation, count_operations, gigamultiplies
from hcpl_kernel.bench.networks import count_network, count_segmentation
from hcpl_kernel.bench.planning import Costs, Workload, format_plan, plan
from hcpl_kernel.bench.projecting import MACHINES, Machine, find_machines, machine_of, project
from hcpl_kernel.bench.sample import class_map, make_sample
from hcpl_kernel.bench.timing import Timing, measure
from hcpl_kernel.cli import main
from hcpl_kernel.engines.fused_normalisation import fuse_normalisation
from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.pipeline.progress import spoken
from hcpl_kernel.runtime.skipped_initialisation import SkippedInitialisation
from hcpl_kernel.segmentation import build_segmentation, label_cells

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini"


def count(module: nn.Module, *inputs: torch.Tensor) -> list[Operation]:
    return count_operations(lambda: module(*inputs), module.state_dict().values())


def test_a_timing_tells_waiting_from_computing() -> None:
    calls: list[None] = []

    def wait() -> None:
        calls.append(None)
        time.sleep(0.01)

    timing = measure(wait, repeats=3)
    assert timing.repeats == 3 and len(calls) == 4  # one call to warm up
    assert 0.01 <= timing.low <= timing.median <= timing.high
    assert timing.core < timing.median


def test_the_allowance_ends_a_measurement_but_not_before_one_call() -> None:
    assert measure(lambda: time.sleep(0.01), repeats=100, allowance=0.0, warm_up=False).repeats == 1


def test_a_timing_in_another_unit() -> None:
    assert Timing(2.0, 1.0, 4.0, 3.0, 5).times(0.5) == Timing(1.0, 0.5, 2.0, 1.5, 5)


def test_no_repeats_is_an_error() -> None:
    with pytest.raises(SettingsError, match="at least 1"):
        measure(lambda: None, repeats=0)


def test_a_convolution_is_counted_by_hand() -> None:
    (operation,) = count(nn.Conv2d(3, 5, 3, bias=False), torch.zeros(1, 3, 10, 10))
    assert operation.flop == 2 * 5 * 3 * 9 * 8 * 8
    assert operation.item_bytes == 2 * (3 * 100 + 5 * 64)  # two bytes per value, as in half precision
    assert operation.weight_bytes == 2 * 5 * 3 * 9
    assert operation.kind == "convolution"


def test_a_depthwise_convolution_is_grouped_and_views_are_free() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Flatten(1))
    (operation,) = count(module, torch.zeros(1, 4, 5, 5))
    assert operation.kind == "grouped"
    assert operation.times(3).flop == 3 * operation.flop
    assert operation.times(3).weight_bytes == operation.weight_bytes


@pytest.mark.parametrize(("base", "gmac"), [("tf_efficientnet_b4", 2.0), ("regnety_032", 4.2), ("resnet50d", 5.7)])
def test_counts_are_the_published_ones(base: str, gmac: float) -> None:
    network = build(NetworkSpec(name="x", kind="cla", base=base, input_size=256, file="tiny.safetensors")).eval()
    operations = count_operations(lambda: network.descriptors(torch.zeros(1, 4, 256, 256)), network.state_dict().values())
    assert gigamultiplies(operations) == pytest.approx(gmac, rel=0.05)
    parameters = sum(p.numel() for p in network.base.parameters())
    assert sum(o.weight_bytes for o in operations) == pytest.approx(2 * parameters, rel=0.02)


def test_inference_mode_would_hide_operations() -> None:
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference mode"):
        count(nn.Linear(2, 2), torch.zeros(1, 2))


def test_a_projection_takes_the_slowest_bound_of_each_operation() -> None:
    machine = Machine("X", 1, 2, peak=1e12, bandwidth=1e9, dense=0.5, product=0.25, grouped=0.1, launch=1e-5)
    compute = Operation(flop=1e9, item_bytes=0, weight_bytes=0, kind="convolution")
    assert project([compute], machine, batch=1) == pytest.approx(1e9 / 0.5e12)
    for kind, share in (("grouped", 0.1), ("product", 0.25)):
        other = dataclasses.replace(compute, kind=kind)
        assert project([other], machine, batch=1) == pytest.approx(1e9 / (share * 1e12))
    memory = Operation(flop=0, item_bytes=7e5, weight_bytes=7e6, kind="other")
    assert project([memory], machine, batch=1) == pytest.approx(1e-3 + 1e-2)
    assert project([memory], machine, batch=10) == pytest.approx(1e-3 + 1e-3)
    assert project([Operation(1, 1, 1, "other")] * 3, machine, batch=2) == pytest.approx(3e-5 / 2)


def test_what_is_computed_of_weights_alone_is_done_once_per_batch() -> None:
    weight = torch.ones(4, 3)
    operations = count_operations(lambda: functional.linear(torch.zeros(1, 3), weight * 2 + weight), [weight])
    assert [operation.item_bytes > 0 for operation in operations] == [False, False, True]
    assert operations[-1].kind == "product" and operations[-1].weight_bytes == 2 * weight.numel()


def measured_on_h200() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "data" / "h200_2026.json").read_text())


@pytest.mark.parametrize("name", sorted(measured_on_h200()["forward_ms_per_cell"]))
def test_the_projection_meets_what_was_measured_on_an_h200(name: str) -> None:
    measured, full = measured_on_h200(), read_ensemble(Path(__file__).parents[2] / "weights" / "full")
    spec = next(spec for spec in full.networks if spec.name == name)
    with SkippedInitialisation():
        network = build(spec).eval()
    fuse_normalisation(network)
    projected = project(count_network(network), MACHINES["h200"], measured["batch"])
    ratio = projected / (1e-3 * measured["forward_ms_per_cell"][name])
    assert 1 / MACHINES["h200"].band < ratio < MACHINES["h200"].band == 1.3


def test_the_projection_meets_the_segmentation_measured_on_an_h200() -> None:
    measured, full = measured_on_h200(), read_ensemble(Path(__file__).parents[2] / "weights" / "full")
    with SkippedInitialisation():
        network = build_segmentation(full.cell).eval()
    projected = project(count_segmentation(network, 576 * 576), MACHINES["h200"], batch=1)
    assert 1 / 1.3 < projected / (1e-3 * measured["segmentation_ms_per_field"]) < 1.3


def test_machines_are_found_by_name() -> None:
    assert list(find_machines(["t4x2", "p100"])) == ["t4x2", "p100"]
    with pytest.raises(SettingsError, match="'v100'.*p100"):
        find_machines(["v100"])
    assert machine_of("Tesla P100-PCIE-16GB", 1) == MACHINES["p100"]
    present = machine_of("NVIDIA H100 80GB HBM3", 2)
    assert present is not None and (present.name, present.gpus) == ("H100", 2)
    assert machine_of("Tesla T4", 1) == dataclasses.replace(MACHINES["t4x2"], gpus=1)
    assert machine_of("GeForce RTX 3090", 1) is None


COSTS = Costs(
    start=7.0,
    field_core=2.0,
    field_device=1.0,
    cell_view=0.1,
    cell=0.05,
    fusing=0.5,
    classifiers=4,
    devices=2,
    cores=4,
    shared=False,
)


def test_a_run_is_the_sum_of_its_parts() -> None:
    assert COSTS.run(images=10, cells=20, views=2) == pytest.approx(7 + 10 * (0.5 + 20 * (0.2 + 0.05) / 2 + 4 * 0.5))
    few_cells = COSTS.run(images=10, cells=0, views=2)
    assert few_cells == pytest.approx(7 + 10 * (0.5 + 4 * 0.5))  # of two cores and of the GPUs, equal here
    on_cpu = dataclasses.replace(COSTS, shared=True, devices=1)
    assert on_cpu.run(images=10, cells=20, views=1) == pytest.approx(7 + 10 * (0.5 + 1.0 + 2.0 + 20 * 0.15))
    assert COSTS.cell_on_one_thread(cells=10, views=4) == pytest.approx((2.0 + 1.0 + 2.0) / 10 + 0.4 + 0.05)


def test_the_plan_is_in_hours() -> None:
    workload = Workload(images=360)
    table = plan(COSTS, workload)
    assert table["12.4"]["1"] == pytest.approx(COSTS.run(360, 12.4, 1) / 3600)
    assert set(table) == {"12.4", "26"} and list(table["26"]) == ["1", "2", "4", "8"]
    assert spoken(3600 * table["26"]["8"]) in format_plan(table, workload)[-1]


def test_cells_per_image_follow_the_area_that_it_shows() -> None:
    assert Workload(size=512, pixel_size=0.32).cells == Workload().cells == (12.4, 26.0)
    assert Workload(size=1024).cells == (3.1, 6.5)
    for wrong in ({"images": 0}, {"size": 64}, {"size": 9000}, {"pixel_size": 0.0}, {"pixel_size": float("nan")}):
        with pytest.raises(SettingsError, match=f"{next(iter(wrong))} is .*, expected"):
            Workload(**wrong)  # type: ignore[arg-type]


def test_the_sample_can_be_decoded_and_segmented_back(tmp_path: Path) -> None:
    from hcpl_kernel.fields.readers import read_field

    sample = make_sample(tmp_path, 1024, 0.08)
    assert (read_field(sample.files) == sample.image).all() and sample.image.dtype == np.uint16
    _, found = label_cells(*sample.maps, output_shape=sample.cells.shape)
    overlap = np.count_nonzero((found > 0) & (sample.cells > 0)) / np.count_nonzero((found > 0) | (sample.cells > 0))
    assert overlap > 0.8


def test_a_class_map_has_a_border_round_an_interior() -> None:
    labels = np.zeros((64, 64), np.int32)
    labels[8:56, 8:56] = 1
    background, border, interior = np.moveaxis(class_map(labels, 0.08), 2, 0)
    assert background.max() == 0
    assert interior[8, 8] == 255 and border[8, 8] == 0 and interior[0, 0] == 0
    assert border[8, 2] > 100


def test_the_command_on_small_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(figures, "ALLOWANCE", 0.2)
    arguments = ["bench", "--weights", str(MINI), "--images", "60", "--size", "512", "--json", str(tmp_path / "bench.json")]
    assert main([*arguments, "--project", "p100,t4x2"]) == 0
    text = capsys.readouterr().out
    assert "PROJECTION to p100" in text and "x 1.6" in text and "core time" in text
    values = json.loads((tmp_path / "bench.json").read_text())
    names = [n["name"] for n in json.loads((MINI / "ensemble.json").read_text())["networks"]]
    assert list(values["networks_per_cell"]) == ["completeness", *names]
    assert min(n["gmac"] for n in values["networks_per_cell"].values()) > 0
    assert values["stages_per_field"]["labelling, exact"]["median"] > 0
    projected = values["projections"]["t4x2"]
    assert projected["kind"] == "projection" and projected["costs"]["devices"] == 2
    assert values["workload"] == {"images": 60, "size": 512, "pixel_size": 0.08}
    assert values["measured"]["plan_hours"]["1.62"]["8"] > values["measured"]["plan_hours"]["1.62"]["1"] > 0
    if not torch.cuda.is_available():
        assert values["present_gpu_projected_over_measured"] is None
        assert "there is no GPU here" in text and "CPU only" in text


def test_without_the_weights_folder_the_message_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "__file__", str(tmp_path / "hcpl_kernel" / "bench" / "command.py"))
    with pytest.raises(WeightsError, match="runs from a checkout"):
        command.run_bench(None, [])
