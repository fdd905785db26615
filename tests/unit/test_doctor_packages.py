"""What the doctor says of Python and of packages, from made-up versions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hcpl_kernel.doctor import packages

CHECKOUT = Path(__file__).resolve().parents[2]


def test_ranges_agree_with_setup() -> None:
    text = (CHECKOUT / "setup.py").read_text()
    # what every user needs comes before the extras, one of which needs a newer torch
    declared = dict(reversed(re.findall(r'"([\w-]+)>=([\d.]+)"', text)))
    for names, oldest in packages.REQUIRED:
        assert declared.get(names[0], "0") == oldest, names[0]
    for names, oldest, _ in packages.OPTIONAL:
        assert declared[names[0]] == oldest


def test_packages_missing_too_old_and_under_another_name() -> None:
    versions = {
        "torch": "2.1.2+cu121", "torchvision": "0.16.2", "timm": "1.0.24", "numpy": "2.0.2", "pandas": "2.2.3",
        "opencv-contrib-python": "4.13.0.90", "numba": "0.60.0", "safetensors": "0.5.3rc1", "xgboost": "2.0.3",
        "pycocotools": "2.0.10", "tqdm": "4.67.1", "openvino": "2023.1",
    }  # fmt: skip
    findings = {finding.subject: finding for finding in packages.check_packages(versions.get)}
    assert findings["torch"].state == "problem" and "2.1.2+cu121, expected >= 2.2" in findings["torch"].found
    assert findings["psutil"].state == "problem" and "pip install 'psutil>=5.9'" in findings["psutil"].advice
    assert findings["opencv-contrib-python"].state == "ok" and "opencv-python-headless" not in findings
    assert findings["safetensors"].state == findings["timm"].state == "ok"
    assert findings["openvino"].state == "note"


def test_the_same_module_from_a_distribution_for_cpus_or_gpus() -> None:
    versions = {"xgboost-cpu": "3.0.5", "onnxruntime-gpu": "1.30.0"}
    findings = {finding.subject: finding for finding in packages.check_packages(versions.get)}
    assert findings["xgboost-cpu"].state == findings["onnxruntime-gpu"].state == "ok"
    assert "xgboost" not in findings and "onnxruntime" not in findings


def test_torchvision_must_match_torch() -> None:
    (finding,) = packages.check_torchvision("2.10.0+cu128", "2.9.1")
    assert finding.state == "problem" and "built for torch 2.9.1, but torch is 2.10.0" in finding.found
    for torch, wanted in (("2.9.1+cu126", "2.9.1"), (None, "2.9.1"), ("2.9.1", None)):
        assert list(packages.check_torchvision(torch, wanted)) == []


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 9, 18), "problem"), ((3, 10, 0), "ok"), ((3, 12, 9), "ok"), ((3, 13, 1), "note"), ((2, 7, 18), "problem")],
)
def test_python_versions(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], state: str) -> None:
    monkeypatch.setattr(packages.sys, "version_info", version)
    finding = packages.check_python()
    assert finding.state == state
    assert ".".join(map(str, version)) in finding.found
