"""The doctor in good and broken environments.

No machine of the tests has a broken GPU: what a GPU's check prints is simulated here, with the messages that torch
gives, and fed to the parsing and diagnosis. The child process, its time-out, a crash and a broken torch are real.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hcpl_kernel.doctor import DoctorReport, Finding, device_check, examine
from hcpl_kernel.doctor._device_check_program import MARK
from hcpl_kernel.doctor.device_check import Outcome, check_device, check_devices, diagnose, parse
from hcpl_kernel.doctor.hardware import check_cores, check_folder, check_memory
from hcpl_kernel.doctor.inputs import check_data, check_weights
from hcpl_kernel.models.manifest import FileEntry, sha256_of, write_manifest

CHECKOUT = Path(__file__).resolve().parents[2]
P100 = {
    "device": "cuda:0",
    "torch": "2.10.0+cu128",
    "cuda": "12.8",
    "name": "Tesla P100-PCIE-16GB",
    "architecture": "sm_60",
    "memory": 16276,
    "kernels": ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
    "cudnn": 91002,
}
NO_KERNEL = "AcceleratorError: CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors"


def cpu(**changes: Any) -> Outcome:
    """The outcome of the CPU's check on a machine without GPU."""
    result = {"device": "cpu", "error": None, "torch": "2.9", "cuda": "12.6", "gpus": 0, "threads": 2}
    return Outcome("cpu", {**result, **changes}, 0)


def gpu(**changes: Any) -> Outcome:
    """The outcome of a GPU's check, through the same parsing as a real one, between lines that torch prints as well."""
    line = MARK + json.dumps({**P100, **changes})
    return parse("cuda:0", 0, f"some notice\n{line}\n", "UserWarning: something\n")


# ---- devices


def test_the_cpu_convolves_in_a_real_child_process() -> None:
    outcome = check_device("cpu")
    assert outcome.result is not None and outcome.result["error"] is None
    finding = diagnose(outcome)
    assert (finding.check, finding.state) == ("cpu", "ok")
    assert outcome.result["torch"] in finding.found


def test_a_probe_that_hangs_is_ended() -> None:
    outcome = check_device("cpu", timeout=0.05)
    assert outcome.code is None
    assert "did not end in time" in diagnose(outcome).found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ImportError('libcudart.so.12: cannot open shared object file')", "torch cannot be imported .*libcudart"),
        ("import os; os.abort()", "was killed by SIGABRT"),
        ("import sys; sys.exit(3)", "exited with 3"),
        ("print('unfinished'", "torch cannot be imported .SyntaxError"),
    ],
)
def test_a_broken_torch_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = diagnose(check_device("cpu"))
    assert finding.state == "problem"
    assert re.search(message, finding.found), finding.found
    assert "install torch" in finding.advice


def test_a_gpu_without_kernels_is_named_with_the_ways_out() -> None:
    finding = diagnose(gpu(error=NO_KERNEL, error_without_cudnn=NO_KERNEL))
    assert finding.state == "problem"
    assert "wrong architecture" in finding.found
    assert "Tesla P100-PCIE-16GB (sm_60)" in finding.found and "sm_70" in finding.found
    for way in ("GPU T4 x2", "pin the notebook", "--device cpu"):
        assert way in finding.advice


@pytest.mark.parametrize(
    ("error", "without", "found"),
    [
        ("RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", None, "cuDNN 91002 fails on Tesla P100.*kernels work"),
        ("RuntimeError: GET was unable to find an engine to execute this computation", None, "cuDNN 91002 fails"),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", "RuntimeError: other", "plain kernels fail too"),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH", None, "wrong architecture"),
        ("OutOfMemoryError: CUDA out of memory. Tried", "OutOfMemoryError: CUDA out of memory", "no free memory"),
        ("RuntimeError: wrong result of a torch.float16 convolution", "RuntimeError: wrong result", "wrong result"),
        ("RuntimeError: CUDA error: unspecified launch failure", "RuntimeError: x", "cannot convolve .*unspecified launch"),
    ],
)
def test_failures_of_a_gpu_are_told_apart(error: str, without: str | None, found: str) -> None:
    finding = diagnose(gpu(error=error, error_without_cudnn=without))
    assert finding.state == "problem"
    assert re.search(found, finding.found), finding.found
    assert finding.advice


def test_a_good_gpu() -> None:
    finding = diagnose(gpu(error=None, name="Tesla T4", architecture="sm_75"))
    assert finding.state == "ok"
    assert "Tesla T4 (sm_75), 16276 MiB: convolves in float32 and float16" in finding.found


def test_gpus_that_crash_or_say_nothing() -> None:
    assert "was killed by SIGSEGV" in diagnose(parse("cuda:1", -11, "", "")).found
    assert "exited with 1: Killed" in diagnose(parse("cuda:1", 1, "nothing of use\n", "a\nKilled\n\n")).found
    assert "unreadable result" in diagnose(parse("cuda:1", 0, MARK + "{cut off", "")).found
    assert "did not end in time" in diagnose(Outcome("cuda:1", None, None)).found


def test_every_gpu_is_checked_by_itself() -> None:
    checked = []

    def check(device: str) -> Outcome:
        checked.append(device)
        if device == "cpu":
            return cpu(gpus=2)
        return gpu(error=None) if device == "cuda:0" else parse("cuda:1", -11, "", "")

    findings = list(check_devices(check, driver_gpus=2))
    assert checked == ["cpu", "cuda:0", "cuda:1"]
    assert [finding.state for finding in findings] == ["ok", "ok", "problem"]


@pytest.mark.parametrize(
    ("build", "listed", "state", "text"),
    [
        (None, 0, "note", "no GPU"),
        (None, 1, "problem", "built without CUDA"),
        ("12.6", 2, "problem", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_gpus_that_torch_does_not_see(build: str | None, listed: int, state: str, text: str) -> None:
    finding = list(check_devices(lambda device: cpu(cuda=build), driver_gpus=listed))[-1]
    assert finding.state == state
    assert text in finding.found + finding.advice


def test_the_driver_is_asked_and_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device_check.count_driver_gpus() == 0
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: Tesla T4 (UUID: GPU-1)'\necho 'GPU 1: Tesla T4 (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    assert device_check.count_driver_gpus() == 2
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert device_check.count_driver_gpus() == 0


# ---- machine


def fake_system(root: Path, available_mib: int, cgroup: str, files: dict[str, str]) -> Path:
    memory = f"MemTotal: 99999999 kB\nMemAvailable:   {available_mib * 1024} kB\n"
    for name, text in {"proc/meminfo": memory, "proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


GIB = 1 << 30
VERSION_1 = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n"


@pytest.mark.parametrize(
    ("available", "cgroup", "files", "state", "found"),
    [
        (16384, "", {}, "ok", "16384 MiB"),
        (4096, "", {}, "note", "4096 MiB; enough for weights/mini"),
        (1024, "", {}, "problem", "1024 MiB, expected 2048"),
        # Version 2, limit on a parent group, in the container's own view (path not below the mount).
        (65536, "0::/../..", {"memory.max": str(4 * GIB), "memory.current": str(1 * GIB)}, "note", "3072 MiB (limited"),
        (65536, "0::/a", {"memory.max": "max", "memory.current": "5"}, "ok", "65536 MiB"),
        # The page cache is given back when memory is short.
        (
            65536,
            "0::/",
            {
                "memory.max": str(4 * GIB),
                "memory.current": str(3 * GIB),
                "memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
            },
            "note",
            "3072 MiB",
        ),
        (
            65536,
            VERSION_1,
            {"memory/memory.limit_in_bytes": str(2 * GIB), "memory/memory.usage_in_bytes": str(GIB)},
            "problem",
            "1024 MiB (limited by the container)",
        ),
        (65536, VERSION_1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, "ok", "65536 MiB"),
    ],
)
def test_memory_as_the_container_allows(
    tmp_path: Path, available: int, cgroup: str, files: dict[str, str], state: str, found: str
) -> None:
    root = fake_system(tmp_path, available, cgroup, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    finding = check_memory(root)
    assert finding.state == state
    assert finding.found.startswith(found)


def test_memory_of_an_unknown_system(tmp_path: Path) -> None:
    assert check_memory(tmp_path).state == "note"


def test_cores_as_affinity_and_container_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert check_cores(tmp_path).found == "8 of the machine's 64"
    limits = {"sys/fs/cgroup/a/cpu.max": "250000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}
    root = fake_system(tmp_path, 1, "0::/a/b", limits)
    assert check_cores(root).found == "3 of the machine's 64, a quota of 2.5"
    (root / "sys/fs/cgroup/a/cpu.max").write_text("50000 100000")
    assert check_cores(root).state == "note"
    quota = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}
    assert check_cores(fake_system(tmp_path / "one", 1, VERSION_1, quota)).found.startswith("4 of")
    quota["sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "-1"
    assert check_cores(fake_system(tmp_path / "two", 1, VERSION_1, quota)).found == "8 of the machine's 64"


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.state for finding in check_folder("working folder", tmp_path)] == ["ok"]
    assert list(tmp_path.iterdir()) == []
    (finding,) = check_folder("working folder", tmp_path / "absent")
    assert finding.state == "problem" and "cannot be written" in finding.found

    def free(mib: int) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": mib << 20})())

    free(500)
    assert [finding.state for finding in check_folder("working folder", tmp_path)] == ["problem"]
    free(5000)
    assert [finding.state for finding in check_folder("scratch folder", tmp_path, wished=20480)] == ["note"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (finding,) = check_folder("working folder", tmp_path)
    assert finding.state == "problem"


# ---- data and weights


def weights_folder(folder: Path, present: bool = True) -> Path:
    """A folder with the ensemble file of weights/full and small files under its names."""
    folder.mkdir(parents=True)
    text = (CHECKOUT / "weights" / "full" / "ensemble.json").read_text()
    (folder / "ensemble.json").write_text(text.replace('"name": "full"', f'"name": "{folder.name}"'))
    entries = {}
    for name in set(re.findall(r'"file": "([^"]+)"', text)):
        (folder / name).write_text(name)
        entries[name] = FileEntry(sha256_of(folder / name), len(name))
        if not present:
            (folder / name).unlink()
    write_manifest(folder, entries)
    return folder


@pytest.mark.parametrize("mount", ["hcpl-weights", "datasets/somebody/hcpl-weights", "datasets/somebody/kit/weights/mini"])
def test_weights_are_found_in_every_layout_and_verified(tmp_path: Path, mount: str) -> None:
    folder = weights_folder(tmp_path / "input" / mount)
    findings = {finding.found.partition(":")[0]: finding for finding in check_weights(tmp_path, tmp_path / "input")}
    finding = findings[str(folder)]
    assert finding.state == "ok" and "hashes agree; UNTRAINED" in finding.found
    assert all(finding.state != "problem" for finding in findings.values())
    name = next(path.name for path in folder.iterdir() if path.suffix == ".safetensors")
    (folder / name).write_text(name[::-1])
    findings = {finding.found.partition(":")[0]: finding for finding in check_weights(tmp_path, tmp_path / "input")}
    assert findings[str(folder)].state == "problem"
    assert f"{name} (changed)" in findings[str(folder)].found


def test_incomplete_weights_are_a_problem_only_if_there_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Hide the checkout's own weights, which the doctor finds next to the package.
    monkeypatch.setattr("hcpl_kernel.__file__", str(tmp_path / "elsewhere" / "hcpl_kernel" / "__init__.py"))
    assert [finding.state for finding in check_weights(tmp_path, tmp_path / "none")] == ["problem"]
    weights_folder(tmp_path / "weights" / "a", present=False)
    findings = list(check_weights(tmp_path, tmp_path / "none"))
    assert [finding.state for finding in findings] == ["note", "problem"]
    assert "files are not usable" in findings[0].found and "no complete weights folder" in findings[1].found
    weights_folder(tmp_path / "weights" / "b")
    assert sorted(finding.state for finding in check_weights(tmp_path, tmp_path / "none")) == ["note", "ok"]
    (tmp_path / "weights" / "a" / "ensemble.json").write_text("{")
    assert sorted(finding.state for finding in check_weights(tmp_path, tmp_path / "none")) == ["ok", "problem"]


@pytest.mark.parametrize(
    "mount", ["hpa-single-cell-image-classification", "competitions/hpa-single-cell-image-classification"]
)
def test_the_competition_is_found(tmp_path: Path, mount: str) -> None:
    assert list(check_data(tmp_path / "absent")) == []
    (tmp_path / "other").mkdir()
    assert [finding.state for finding in check_data(tmp_path)] == ["note"]
    folder = tmp_path / mount
    (folder / "test").mkdir(parents=True)
    (folder / "sample_submission.csv").write_text("ID,ImageWidth,ImageHeight,PredictionString\n")
    for field in "ab":
        for colour in ("red", "green", "blue", "yellow"):
            (folder / "test" / f"{field}_{colour}.png").touch()
    (finding,) = check_data(tmp_path)
    assert finding.state == "ok" and "2 fields" in finding.found


# ---- report and command


def test_the_table_and_the_object_tell_the_same() -> None:
    findings = (
        Finding("gpu", "cuda:0", "problem", "wrong architecture " * 10, "take another " * 20),
        Finding("python", "Python", "ok", "3.11.7"),
        Finding("disk", "scratch folder", "note", "small"),
    )
    report = DoctorReport(findings)
    assert not report.fit
    assert DoctorReport(findings[1:]).fit
    values = json.loads(report.as_json())
    assert (values["schema"], values["fit"]) == (1, False)
    assert [Finding(**entry) for entry in values["findings"]] == list(findings)
    lines = report.as_table().splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[-1].endswith("NOT fit to run: 1 problem")
    assert report.as_table().split().count("another") == 20
    assert DoctorReport(findings[1:]).as_table().endswith("fit to run")


def test_an_examination_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    weights_folder(tmp_path / "weights" / "tiny")
    report = examine(tmp_path, tmp_path / "scratch", tmp_path / "input", check=lambda device: cpu())
    checks = {finding.check for finding in report.findings}
    assert {"python", "package", "cpu", "memory", "cores", "disk", "weights"} <= checks
    assert str(tmp_path / "scratch") in report.as_table()


def test_the_command_where_torch_and_all_other_packages_are_broken(tmp_path: Path) -> None:
    """Every third-party package raises on import: the doctor still gives its one JSON object, and exit code 1."""
    weights_folder(tmp_path / "weights" / "tiny")
    broken = tmp_path / "broken"
    for name in ("torch", "torchvision", "timm", "numpy", "pandas", "cv2", "numba", "safetensors", "psutil", "tqdm"):
        (broken / name).mkdir(parents=True)
        (broken / name / "__init__.py").write_text(f"raise ImportError('{name} is broken')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(broken), str(CHECKOUT)])}
    done = subprocess.run(
        [sys.executable, "-m", "hcpl_kernel", "doctor", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    values = json.loads(done.stdout)
    findings = {(entry["check"], entry["subject"]): entry for entry in values["findings"]}
    assert values["fit"] is False
    assert "torch cannot be imported (ImportError: torch is broken)" in findings["cpu", "cpu"]["found"]
    assert findings["weights", "tiny"]["state"] == "ok"
    assert not any(check == "gpu" for check, _ in findings)
    table = subprocess.run(
        [sys.executable, "-m", "hcpl_kernel", "doctor"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert table.returncode == 1
    assert "NOT fit to run" in table.stdout


def test_the_command_with_the_standard_library_only(tmp_path: Path) -> None:
    """`-S` leaves out site-packages; the check's own process has them again."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-S", "-m", "hcpl_kernel", "doctor", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    findings = {(entry["check"], entry["subject"]): entry for entry in json.loads(done.stdout)["findings"]}
    assert findings["package", "torch"]["found"] == "not installed, expected >= 2.2"
    assert "cpu" in {check for check, _ in findings}
