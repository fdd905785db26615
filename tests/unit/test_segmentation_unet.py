"""The segmentation networks: published names and values, the small one's contract."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import SegmentationSpec
from hcpl_kernel.segmentation import DPNUNet, MiniUNet, build_segmentation


def known_weights(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """The weights that belong to `dpn_unet_salt0.npz`."""
    state = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=torch.long)
            continue
        values = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape)).astype(np.float32)
        if values.ndim == 4:
            values *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
        elif key.endswith("running_var"):
            values = 1 + 0.1 * np.abs(values)
        else:
            values = 1 + 0.1 * values if key.endswith("weight") else 0.1 * values
        state[key] = torch.from_numpy(values)
    return state


@pytest.mark.slow
def test_dpn_unet_has_the_published_names_and_values(reference_dir: Path) -> None:
    shapes = json.loads((reference_dir / "dpn_unet_keys.json").read_text())
    net = DPNUNet(3, 3).eval()
    net.load_state_dict(known_weights(shapes), strict=True)
    image = torch.from_numpy(np.random.RandomState(0).rand(2, 3, 64, 96).astype(np.float32))
    with torch.inference_mode():
        logits = net(image).numpy()
    expected = np.load(reference_dir / "dpn_unet_salt0.npz")["logits"]
    assert np.linalg.norm(logits - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("size", [(32, 32), (64, 160)])
def test_mini_unet_keeps_the_size(size: tuple[int, int]) -> None:
    net = MiniUNet().eval()
    with torch.inference_mode():
        assert net(torch.zeros(2, 3, *size)).shape == (2, 3, *size)


def test_mini_unet_is_small() -> None:
    assert 0.6e6 < sum(p.numel() for p in MiniUNet().parameters()) < 1.2e6


def test_build_segmentation_follows_the_spec() -> None:
    net = build_segmentation(SegmentationSpec("mini_unet", "nuclei.safetensors", kwargs={"width": 8}))
    assert isinstance(net, MiniUNet)
    assert net.stem[0].weight.shape == (8, 3, 3, 3)
    with pytest.raises(SettingsError, match="depth"):
        build_segmentation(SegmentationSpec("mini_unet", "nuclei.safetensors", kwargs={"depth": 3}))


def test_importing_the_package_pulls_in_nothing_heavy() -> None:
    code = (
        "import sys, hcpl_kernel.segmentation as s; assert 'label_cells' in dir(s);"
        "print([m for m in ('torch', 'timm', 'cv2', 'numba') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_unknown_export_is_an_attribute_error() -> None:
    import hcpl_kernel.segmentation as package

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name
