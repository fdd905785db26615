"""The benchmark as one command: measure, plan, project, print, and write the figures as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from hcpl_kernel.bench.figures import measure_figures, measured_costs, projected_costs, projection_miss
from hcpl_kernel.bench.planning import Workload
from hcpl_kernel.bench.printing import as_values, format_figures
from hcpl_kernel.bench.projecting import find_machines
from hcpl_kernel.errors import WeightsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.runtime.atomic import atomic_open
from hcpl_kernel.runtime.devices import resolve_devices


def run_bench(
    json_path: Path | None, projections: Sequence[str], weights: Path | None = None, workload: Workload | None = None
) -> int:
    """Measure this machine with the networks of an ensemble on random weights, and print what a run would take.

    Args:
        json_path: where the figures are written too, or None.
        projections: machines to project to, keys of :data:`hcpl_kernel.bench.projecting.MACHINES`.
        weights: a weights folder, of which `ensemble.json` suffices; None for `weights/full`.
        workload: the images of the run that is planned; None for the competition's test set.

    Returns:
        0.

    Raises:
        SettingsError: for an unknown machine, or an unfit `ensemble.json`.
        WeightsError: where the folder has no `ensemble.json`; with None, where the package was installed without the
            `weights/` folder next to it.
    """
    machines = find_machines(projections)
    workload = workload or Workload()
    ensemble = read_ensemble(full_weights() if weights is None else weights)
    devices, notes = resolve_devices("auto")
    start = time.perf_counter()
    figures = measure_figures(ensemble, devices[0], workload)
    seconds = time.perf_counter() - start
    costs = measured_costs(figures, devices)
    projected = {key: projected_costs(figures, machine) for key, machine in machines.items()}
    miss = projection_miss(figures, devices[0])
    print("\n".join([*notes, format_figures(figures, workload, costs, projected, miss, devices)]))
    print(f"\nmeasured in {seconds:.0f} s")
    if json_path is not None:
        with atomic_open(json_path) as file:
            json.dump(as_values(figures, workload, costs, projected, miss, devices, seconds), file, indent=1)
        print(f"figures written to {json_path}")
    return 0


def full_weights() -> Path:
    """The folder that says what the nine networks are; their weight files are not needed."""
    folder = Path(__file__).resolve().parents[2] / "weights" / "full"
    if not (folder / "ensemble.json").is_file():
        raise WeightsError(
            f"{folder}/ensemble.json, which says what networks are measured, is not there: `hcpl bench` runs from a "
            "checkout or the Kaggle bundle, which have the weights folder next to the package (its weight files are not "
            "needed)"
        )
    return folder
