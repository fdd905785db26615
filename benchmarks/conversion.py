"""Time and memory of converting a whole pickled module of full size (139.1 M parameters).

    python benchmarks/conversion.py            # writes benchmarks/conversion.md

The file is made here: our DPNUNet with seeded weights, its classes named as in the published files while it is saved.
Each conversion runs in a process of its own; its peak is what the system reports at its end.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import types
import warnings
from pathlib import Path

import torch
from torch import nn

from hcpl_kernel.segmentation import DPNUNet

REPEATS = 3
WHOLE_MODULE = "pytorch_zoo.unet"

# VmHWM and not getrusage: the latter starts at the parent's peak, since it survives exec.
CHILD = """
import json, sys, time
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
began = time.perf_counter()
{setup}
before, imported = peak(), time.perf_counter()
{work}
seconds = time.perf_counter() - imported
print(json.dumps({{"import": imported - began, "seconds": seconds, "before": before, "peak": peak()}}))
"""
OURS = ("from hcpl_kernel.conversion import convert", "convert(sys.argv[1], sys.argv[2])")
# What one would do with a trusted state dict: torch's loader and the library's writer, and the hashes.
REFERENCE = (
    "import torch; from safetensors.torch import save_file; from hcpl_kernel.models.manifest import sha256_of",
    "path = sys.argv[2] + '/reference.safetensors'; save_file(torch.load(sys.argv[1], weights_only=True), path)\n"
    "sha256_of(sys.argv[1]), sha256_of(path)",
)


def save_as_published(module: nn.Module, path: Path, zipped: bool) -> None:
    """Save a whole module whose own classes claim to come from the published package."""
    own = {type(part) for part in module.modules() if type(part).__module__.startswith("hcpl_kernel")}
    places = {kind: (kind.__module__, kind.__qualname__) for kind in own}
    for name in ("pytorch_zoo", WHOLE_MODULE):
        sys.modules[name] = types.ModuleType(name)
    try:
        for kind in own:
            name = "DPNUnet" if kind is type(module) else kind.__qualname__
            kind.__module__, kind.__qualname__ = WHOLE_MODULE, name
            setattr(sys.modules[WHOLE_MODULE], name, kind)
        torch.save(module, path, _use_new_zipfile_serialization=zipped)
    finally:
        for kind, place in places.items():
            kind.__module__, kind.__qualname__ = place
        del sys.modules[WHOLE_MODULE], sys.modules["pytorch_zoo"]


def measure(code: tuple[str, str], source: Path, folder: Path) -> dict[str, float]:
    """Medians over the repetitions, and the highest peak."""
    script = CHILD.format(setup=code[0], work=code[1])
    command = [sys.executable, "-c", script, str(source), str(folder)]
    outputs = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(REPEATS)]
    runs = [json.loads(output) for output in outputs]
    return {key: (max if key == "peak" else statistics.median)(run[key] for run in runs) for key in runs[0]}


def check(converted: Path, module: nn.Module) -> None:
    """The converted file holds the module's own values, bit for bit."""
    from hcpl_kernel.models.weights import load_tensors

    found, expected = load_tensors(converted), module.state_dict()
    if found.keys() != expected.keys() or not all(torch.equal(found[name], expected[name]) for name in expected):
        raise SystemExit(f"{converted} differs from the module that was saved")


def main() -> None:
    """Measure and write the table."""
    torch.manual_seed(0)
    module = DPNUNet()
    count = sum(parameter.numel() for parameter in module.parameters())
    warnings.filterwarnings("ignore", message="Couldn't retrieve source code")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for layout, zipped in (("zip", True), ("legacy", False)):
            source = folder / f"{layout}.pth"
            save_as_published(module, source, zipped)
            result = measure(OURS, source, folder)
            check(folder / f"{layout}.safetensors", module)
            rows.append((f"`hcpl weights convert`, whole module, {layout}", source.stat().st_size / 2**20, result))
            source.unlink()
        torch.save(module.state_dict(), folder / "state.pth")
        source, what = folder / "state.pth", "`torch.load` + `save_file` of a trusted state dict"
        rows.append((what, source.stat().st_size / 2**20, measure(REFERENCE, source, folder)))
    lines = [
        "# Conversion of a whole pickled module",
        "",
        f"{count / 1e6:.1f} M parameters (`DPNUNet`, seeded), saved as a module of class `{WHOLE_MODULE}.DPNUnet`.",
        "Each conversion has a process of its own, which hashes the source, converts, writes with fsync and hashes the",
        "result; the converted values equal the module's bit for bit (checked in the same run).",
        f"Time: median of {REPEATS}. Memory: resident, after the imports and at its peak (VmHWM).",
        "",
        "| what | file, MiB | imports, s | work, s | after imports, MiB | peak, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for what, size, r in rows:
        lines.append(
            f"| {what} | {size:.0f} | {r['import']:.1f} | {r['seconds']:.1f} | {r['before']:.0f} | {r['peak']:.0f} |"
        )
    lines += [
        "",
        f"Machine: {processor()}, two cores shared with other work, Python {platform.python_version()},",
        f"torch {torch.__version__}. Measured by `python benchmarks/conversion.py`.",
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def processor() -> str:
    """The processor's name as Linux gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
