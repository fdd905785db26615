"""All checks, in the order in which a person would ask."""

from __future__ import annotations

from pathlib import Path

from hcpl_kernel.doctor.device_check import DeviceCheck, check_device, check_devices
from hcpl_kernel.doctor.hardware import DISK_WISHED, check_cores, check_folder, check_memory, scratch_folder
from hcpl_kernel.doctor.inputs import check_data, check_weights
from hcpl_kernel.doctor.packages import check_packages, check_python
from hcpl_kernel.doctor.report import DoctorReport
from hcpl_kernel.fields.kaggle import INPUT_ROOT

FIT, NOT_FIT = 0, 1


def examine(
    working: Path | None = None, scratch: Path | None = None, inputs: Path = INPUT_ROOT, check: DeviceCheck = check_device
) -> DoctorReport:
    """Check everything that a run needs. Nothing is changed; a small temporary file is written and removed.

    Args:
        working: the folder that a run writes to; default: the current one.
        scratch: the folder for label maps and crops; default: Kaggle's, or the system's.
        inputs: where Kaggle mounts a notebook's inputs.
        check: how a device is checked.
    """
    working = Path.cwd() if working is None else working
    return DoctorReport(
        (
            check_python(),
            *check_packages(),
            *check_devices(check),
            check_memory(),
            check_cores(),
            *check_folder("working folder", working),
            *check_folder("scratch folder", scratch_folder() if scratch is None else scratch, DISK_WISHED),
            *check_data(inputs),
            *check_weights(working, inputs),
        )
    )


def run_doctor(as_json: bool = False) -> int:
    """`hcpl doctor`: print the report; returns 0 if the environment is fit to run, 1 if not."""
    report = examine()
    print(report.as_json() if as_json else report.as_table())
    return FIT if report.fit else NOT_FIT
