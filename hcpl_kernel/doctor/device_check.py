"""A real convolution on every device, each in a child process with a time-out, and what a failure means."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hcpl_kernel.doctor._device_check_program import MARK
from hcpl_kernel.doctor.report import Finding

# Our choice: the first use of a GPU can take a minute on a cold machine.
TIMEOUT = 180.0

WAYS_OUT = (
    'on Kaggle choose the accelerator "GPU T4 x2", or pin the notebook to an image of early 2026 (torch 2.9 with '
    "CUDA 12.6), or run on the CPU with --device cpu"
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the check of a device left behind.

    Attributes:
        device: "cpu" or "cuda:<index>".
        result: the object that it printed, None if it printed none.
        code: its exit status, negative for a signal, None if it was ended by the time-out.
        last: the last line of its error output.
    """

    device: str
    result: dict[str, Any] | None
    code: int | None
    last: str = ""


DeviceCheck = Callable[[str], Outcome]


def check_device(device: str, timeout: float = TIMEOUT) -> Outcome:
    """Convolve on a device in a process of its own."""
    # The child must find what this process finds, also where the package is on sys.path only.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "hcpl_kernel.doctor._device_check_program", device],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return Outcome(device, None, None)
    return parse(device, done.returncode, done.stdout, done.stderr)


def parse(device: str, code: int, stdout: str, stderr: str) -> Outcome:
    """The outcome of a check that has ended, from its exit status and what it printed."""
    last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
    for line in reversed(stdout.splitlines()):
        if line.startswith(MARK):
            try:
                return Outcome(device, json.loads(line.removeprefix(MARK)), code, last)
            except json.JSONDecodeError:
                return Outcome(device, None, code, f"unreadable result {line[:80]!r}")
    return Outcome(device, None, code, last)


def check_devices(check: DeviceCheck = check_device, driver_gpus: int | None = None) -> Iterator[Finding]:
    """The CPU, then every GPU that torch sees.

    Args:
        check: how a device is checked.
        driver_gpus: how many GPUs the driver lists; None asks `nvidia-smi`.
    """
    cpu = check("cpu")
    yield diagnose(cpu)
    if cpu.result is None or cpu.result.get("import_failed"):
        # Without torch nothing can be said of the GPUs.
        return
    about, seen = cpu.result, int(cpu.result["gpus"])
    for index in range(seen):
        yield diagnose(check(f"cuda:{index}"))
    listed = count_driver_gpus() if driver_gpus is None else driver_gpus
    if listed > seen:
        advice = (
            "compare CUDA_VISIBLE_DEVICES and the driver's CUDA version (nvidia-smi) with torch's"
            if about["cuda"]
            else "this torch is built without CUDA; install a CUDA build to use the GPU"
        )
        found = f"the driver lists {listed}, torch {about['torch']} sees {seen}"
        yield Finding("gpu", "driver", "problem", found, advice)
    elif seen == 0:
        yield Finding("gpu", "none", "note", "no GPU; everything runs on the CPU", "for a full test set, use a GPU")


def count_driver_gpus() -> int:
    """GPUs that NVIDIA's driver lists; 0 without a driver."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines()) if done.returncode == 0 else 0


def diagnose(outcome: Outcome) -> Finding:
    """What a check's outcome means, and the way out."""
    check = "cpu" if outcome.device == "cpu" else "gpu"
    result = outcome.result or {}

    def problem(found: str, advice: str) -> Finding:
        return Finding(check, outcome.device, "problem", found, advice)

    elsewhere = "reinstall torch" if check == "cpu" else f"restart the machine or session; else {WAYS_OUT}"
    if outcome.code is None:
        return problem("the convolution did not end in time, the process was ended", elsewhere)
    if outcome.result is None:
        how = f"was killed by {_signal(-outcome.code)}" if outcome.code < 0 else f"exited with {outcome.code}"
        return problem(f"the check {how}{f': {outcome.last}' if outcome.last else ''}", elsewhere)
    error = result.get("error")
    if error is None:
        return Finding(check, outcome.device, "ok", _works(result))
    text = _first_line(str(error))
    if result.get("import_failed"):
        return problem(f"torch cannot be imported ({text})", "install torch and torchvision of one release together")
    name = f"{result.get('name', outcome.device)} ({result.get('architecture', 'architecture unknown')})"
    lower = str(error).lower()
    if check == "cpu":
        return problem(f"torch {result.get('torch')} cannot convolve: {text}", elsewhere)
    if "no kernel image" in lower or "arch_mismatch" in lower or "not compatible with the current pytorch" in lower:
        kernels = ", ".join(result.get("kernels", [])) or "unknown"
        return problem(
            f"wrong architecture: torch {result.get('torch')} has no kernels for {name}, only for {kernels} ({text})",
            WAYS_OUT,
        )
    if "cudnn" in lower or result.get("error_without_cudnn", error) is None:
        plain = "plain kernels work" if result.get("error_without_cudnn", error) is None else "plain kernels fail too"
        return problem(f"cuDNN {result.get('cudnn')} fails on {name}, {plain} ({text})", WAYS_OUT)
    if "out of memory" in lower:
        return problem(f"{name} has no free memory ({text})", "end the program that holds the GPU (nvidia-smi lists it)")
    return problem(f"{name} cannot convolve ({text})", elsewhere)


def _works(result: dict[str, Any]) -> str:
    if result["device"] == "cpu":
        return f"convolves, torch {result['torch']}, {result['threads']} threads"
    return (
        f"{result['name']} ({result['architecture']}), {result['memory']} MiB: convolves in float32 and float16, "
        f"torch {result['torch']}, CUDA {result['cuda']}, cuDNN {result['cudnn']}"
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else ""
