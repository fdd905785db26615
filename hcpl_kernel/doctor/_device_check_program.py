"""Run as a program in a process of its own: a real convolution on one device, its result as one line of JSON.

The import of torch, the first use of a GPU and the convolution may each raise, crash or hang; `device_check.py` reads
what is left of it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

# A line of this beginning is the result; torch and its libraries print what they like as well.
MARK = "hcpl-device-check "


def convolve(device: str) -> None:
    """Convolve ones with ones on the device, in float32 and (on a GPU) float16, and compare with the known result."""
    import torch

    for dtype in (torch.float32, torch.float16) if device != "cpu" else (torch.float32,):
        image = torch.ones(2, 4, 32, 32, device=device, dtype=dtype)
        kernel = torch.ones(8, 4, 3, 3, device=device, dtype=dtype)
        result = torch.nn.functional.conv2d(image, kernel)
        if not bool((result == 36).all()):
            raise RuntimeError(f"wrong result of a {dtype} convolution")


def describe(device: str) -> dict[str, Any]:
    """What torch says about itself and the device."""
    import torch

    about: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if device == "cpu":
        about |= {"gpus": torch.cuda.device_count(), "threads": torch.get_num_threads()}
    else:
        properties = torch.cuda.get_device_properties(device)
        about |= {
            "name": properties.name,
            "architecture": f"sm_{properties.major}{properties.minor}",
            "memory": round(properties.total_memory / 2**20),
            "kernels": torch.cuda.get_arch_list(),
            "cudnn": torch.backends.cudnn.version(),
        }
    return about


def attempt(device: str) -> dict[str, Any]:
    """Describe the device and convolve; if that fails, say how, and whether it works without cuDNN."""
    result: dict[str, Any] = {"device": device, "error": None}
    try:
        result |= describe(device)
        began = time.perf_counter()
        convolve(device)
        result["seconds"] = round(time.perf_counter() - began, 3)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        result["error"] = f"{type(error).__name__}: {error}"
        result["import_failed"] = "torch" not in sys.modules
    if result["error"] and device != "cpu":
        result["error_without_cudnn"] = _without_cudnn(device)
    return result


def _without_cudnn(device: str) -> str | None:
    try:
        import torch

        torch.backends.cudnn.enabled = False
        convolve(device)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    print(MARK + json.dumps(attempt(sys.argv[1])), flush=True)
