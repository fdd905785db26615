"""The Cell-level Hybrid (CLH): a base into which scattering features are inducted by two hybrid fusion blocks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.models.network_kinds import HybridSettings
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import LABEL_PRIOR, CellNetwork, Classifier
from hcpl_kernel.networks.scattering import Scattering

STRIDES = (4, 8)
"""Where the two hybrid fusion blocks sit: after the base's stages of these strides (our choice)."""

_LOG_UNIT = 1e-3
"""Scattering coefficients of cells in [0, 1] are 1e-4 to 1e-1; `log1p(s / 1e-3)` brings them to 0.1 to 5 and makes the
features a matter of ratios rather than of brightness. Our choice."""


class HybridFusion(nn.Module):
    """Adds to a feature map what a mixture of it and the scattering features says.

    `R + BN(conv([R, SiLU(BN(conv(BN(s))))]))` with 1 x 1 convolutions. The paper leaves the block's internals open:
    this form is our choice. The last scale starts at 0.1, so that a pretrained base starts nearly undisturbed.

    Args:
        channels: depth of the feature map.
        scattering_channels: depth of the scattering features.
    """

    def __init__(self, channels: int, scattering_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.BatchNorm2d(scattering_channels),
            nn.Conv2d(scattering_channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
        )
        self.mix = nn.Sequential(nn.Conv2d(2 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        nn.init.constant_(self.mix[1].weight, 0.1)  # type: ignore[arg-type]

    def forward(self, feature_map: Tensor, scattering: Tensor) -> Tensor:
        """(N, D, h, w) and (N, C, h', w') -> (N, D, h, w); the scattering is resampled where its size differs."""
        scattering = scattering.to(feature_map.dtype)
        if scattering.shape[2:] != feature_map.shape[2:]:
            scattering = functional.interpolate(scattering, feature_map.shape[2:], mode="bilinear")
        return feature_map + self.mix(torch.cat([feature_map, self.reduce(scattering)], 1))


class CellHybridNet(CellNetwork):
    """Base with two hybrid fusion blocks -> global average pooling -> FC, without Weibull activation (Figure 2b).

    The base may be any timm model that names its stages of stride 4 and 8 (`feature_info`). The blocks are hooked onto
    them for the time of one forward pass, so a network must not be run from two threads at once.

    Args:
        spec: its base, input and number of outputs K, one per class; `head_kwargs` as in
            :class:`hcpl_kernel.models.network_kinds.HybridSettings`.

    Raises:
        SettingsError: for a base without such stages; see also :class:`hcpl_kernel.networks.base.CellNetwork`.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        settings: HybridSettings = spec.head()
        self.reduction = settings.reduction
        self.scatterings = nn.ModuleList(Scattering(scale, settings.angles) for scale in settings.scales)
        stages = [self._stage(stride) for stride in STRIDES]
        self.stage_names = [stage["module"] for stage in stages]
        self.fusions = nn.ModuleList(
            HybridFusion(stage["num_chs"], CHANNEL_COUNT * scattering.channels)  # type: ignore[operator,arg-type]
            for stage, scattering in zip(stages, self.scatterings, strict=True)
        )
        self.classifier = Classifier(self.features, spec.outputs, LABEL_PRIOR)

    def scatter(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithmic scattering features for both fusion blocks; no gradient flows through them.

        Args:
            cells: (N, 4, S, S) float32 in [0, 1].

        Returns:
            A tensor (N, 4 C, h, w) float32, above or equal to 0, for each block; each has its own C, h and w.
        """
        side = cells.shape[-1] // self.reduction
        planes = functional.interpolate(cells.float(), (side, side), mode="area")
        first, second = (
            torch.log1p(scattering(planes).flatten(1, 2).clamp_min(0) / _LOG_UNIT) for scattering in self.scatterings
        )
        return first, second

    def feature_map(self, cells: Tensor) -> Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, D, h, w), with the scattering features inducted."""
        return self.hybrid_feature_map(self.standardise(cells), *self.scatter(cells))

    def hybrid_feature_map(self, standardised: Tensor, *scattering: Tensor) -> Tensor:
        """The feature map from cells as :meth:`standardise` gives them and features as :meth:`scatter` does.

        Apart from :meth:`scatter`, this is the part of the network that engines which compile a graph can take.
        """
        with ExitStack() as stack:
            for name, fusion, features in zip(self.stage_names, self.fusions, scattering, strict=True):
                hook = self._fuse_into(fusion, features)
                stack.callback(self.base.get_submodule(name).register_forward_hook(hook).remove)
            return self.base_map(standardised)

    def cell_logits(self, descriptors: Tensor) -> Tensor:
        """(N, D) -> (N, K) logits."""
        return self.classifier(descriptors)

    def forward(self, cells: Tensor) -> Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, K) logits."""
        return self.cell_logits(self.descriptors(cells))

    def _fuse_into(self, fusion: nn.Module, scattering: Tensor) -> Callable[..., Tensor]:
        def hook(_stage: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            fused = fusion(self.to_nchw(output), scattering)
            return fused.permute(0, 2, 3, 1) if self.channels_last_maps else fused

        return hook

    def _stage(self, stride: int) -> dict[str, Any]:
        """The base's description of its stage of a stride: name of the module, depth."""
        stages = {info["reduction"]: info for info in getattr(self.base, "feature_info", ())}
        if stride not in stages:
            raise SettingsError(
                f"network {self.spec.name!r}: {self.spec.base} has no stage of stride {stride}, which the hybrid fusion "
                f"needs; it has {sorted(stages) or 'none'}"
            )
        return stages[stride]
