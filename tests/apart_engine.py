"""An engine that computes on the cores as for a device that leaves them alone: what a GPU does, where there is none."""

from __future__ import annotations

import torch

from hcpl_kernel.engines.torch_engine import TorchEngine


class Apart(TorchEngine):
    """Torch, for a device apart from the cores."""

    shares_cores = False

    def occupies_cores(self, device: torch.device) -> bool:
        return False
