"""Importing the package must stay cheap: the doctor runs where torch is broken."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "hcpl_kernel",
        "hcpl_kernel.cli",
        "hcpl_kernel.settings",
        "hcpl_kernel.fields.locate",
        "hcpl_kernel.models.ensemble",
        "hcpl_kernel.networks",
        "hcpl_kernel.segmentation",
        "hcpl_kernel.runtime.process_tuning",
        "hcpl_kernel.pipeline.budget",
        "hcpl_kernel.report.text",
    ],
)
def test_no_heavy_library_is_imported(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'timm', 'cv2', 'numba') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
