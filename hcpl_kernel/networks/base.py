"""What all networks share: a timm base with four input channels, standardised inputs, a feature map in NCHW."""

from __future__ import annotations

import difflib
import math
from itertools import chain
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fields.channels import CHANNEL_COUNT, CHANNELS
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.grey_closing import closed

LABEL_PRIOR = 0.08
"""Initial probability of every class: a cell has about 1.5 of 19 labels. Our choice; it keeps the first steps of a
training with many negatives quiet."""

BLUE = CHANNELS.index("blue")


class CellNetwork(nn.Module):
    """A base that turns crops of cells into feature maps; its children turn those into logits.

    Args:
        spec: what to build.

    Raises:
        SettingsError: for a base that timm does not know, arguments that it does not take, or one without a
            two-dimensional feature map.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.base = create_base(spec)
        # Not in the weights file: the spec is where they are said.
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, CHANNEL_COUNT, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, CHANNEL_COUNT, 1, 1), persistent=False)
        self.input_precision: torch.dtype | None = None
        """Where it is set, the base takes its input in two parts (:mod:`hcpl_kernel.engines.split_precision`)."""
        self.base_precision: torch.dtype | None = None
        """What the base is computed in without autocast, where that is not what the standardisation is."""
        self.features = self._feature_depth()

    def standardise(self, cells: Tensor) -> Tensor:
        """What the base takes: `(cells - mean) / std` in float32, given in the network's own precision.

        Before that, gaps in blue are filled where the spec says so.

        Args:
            cells: (N, 4, S, S) in [0, 1].

        Returns:
            (N, 4, S, S); or (N, 8, S, S) float32 where `input_precision` is set, the values rounded to it and the
            remainders.
        """
        precision = self.base_precision or self.mean.dtype
        cells = cells.float()
        if self.spec.chromatin_filled > 1:
            blue = closed(cells[:, BLUE : BLUE + 1], self.spec.chromatin_filled)
            cells = torch.cat([cells[:, :BLUE], blue, cells[:, BLUE + 1 :]], 1)
        standardised = ((cells - self.mean.float()) / self.std.float()).to(precision)
        if self.input_precision is None:
            return standardised
        coarse = standardised.to(self.input_precision).to(standardised.dtype)
        return torch.cat([coarse, standardised - coarse], 1)

    def feature_map(self, cells: Tensor) -> Tensor:
        """The base's last feature map.

        Args:
            cells: (N, 4, S, S) float32 in [0, 1], channels red, green, blue, yellow, S = `spec.input_size`.

        Returns:
            (N, D, h, w) float.
        """
        return self.base_map(self.standardise(cells))

    def base_map(self, standardised: Tensor) -> Tensor:
        """What the base makes of cells as :meth:`standardise` gives them; (N, D, h, w) as in :meth:`feature_map`."""
        return self.to_nchw(self.base.forward_features(standardised))

    def to_nchw(self, feature_map: Tensor) -> Tensor:
        """A feature map of the base as (N, D, h, w); Swin and similar bases give (N, h, w, D)."""
        if feature_map.ndim != 4:
            raise ValueError(f"a map of shape {tuple(feature_map.shape)}; take a convolutional or Swin base")
        return feature_map.permute(0, 3, 1, 2) if self.channels_last_maps else feature_map

    def walk_shapes(self) -> Tensor:
        """The feature map of one cell as a tensor of the meta device: every step's shape, and nothing computed."""
        walk = _BaseMap(self)
        shapes = {name: tensor.to("meta") for name, tensor in chain(walk.named_parameters(), walk.named_buffers())}
        cells = torch.empty(1, CHANNEL_COUNT, self.spec.input_size, self.spec.input_size, device="meta")
        with torch.no_grad():
            return functional_call(walk, shapes, cells)

    def _feature_depth(self) -> int:
        """The depth D of the feature map."""
        side = self.spec.input_size
        training = self.base.training
        self.base.eval()
        try:
            depth = self.walk_shapes().shape[1]
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SettingsError(
                f"network {self.spec.name!r}: {self.spec.base} with base_kwargs {dict(self.spec.base_kwargs)} does not take "
                f"cells of {side} x {side} px and give a two-dimensional feature map: {error}"
            ) from error
        self.base.train(training)
        return depth

    @property
    def channels_last_maps(self) -> bool:
        """Whether the base's maps are (N, h, w, D)."""
        return str(getattr(self.base, "output_fmt", "NCHW")) == "NHWC"

    def descriptors(self, cells: Tensor) -> Tensor:
        """(N, 4, S, S) float32 in [0, 1] -> (N, D) float32, what the classifier sees of each cell."""
        return self.pool(self.feature_map(cells))

    def pool(self, feature_map: Tensor) -> Tensor:
        """(N, D, h, w) float -> (N, D) float32: global average pooling."""
        return feature_map.float().mean((2, 3))

    def cell_logits(self, descriptors: Tensor) -> Tensor:
        """(N, D) -> (N, `spec.outputs`) logits of the cells; every kind has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no cell_logits")

    def image_logits(self, descriptors: Tensor, bag: Tensor, bag_count: int) -> Tensor:
        """(N, D) and the image (N,) of each cell -> (bag_count, `spec.outputs`); of kinds that declare an image stream."""
        raise NotImplementedError(f"{type(self).__name__} has no image_logits")

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, outputs) logits -> float32 in [0, 1], by the activation that the network's kind declares."""
        logits = logits.float()
        return logits.softmax(1) if self.spec.declared.activation == "softmax" else logits.sigmoid()


class _BaseMap(nn.Module):
    """A network whose forward pass is its base's alone."""

    def __init__(self, network: CellNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, cells: Tensor) -> Tensor:
        return self.network.base_map(self.network.standardise(cells))


def replace_module(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of one that `root` holds somewhere (torch's own `set_submodule` is of 2.5)."""
    name = next(name for name, module in root.named_modules() if module is old)
    parent, _, attribute = name.rpartition(".")
    setattr(root.get_submodule(parent), attribute, new)


def create_base(spec: NetworkSpec) -> Any:
    """The timm model of a spec, without a classifier and without pretrained weights.

    Raises:
        SettingsError: see :class:`CellNetwork`.
    """
    if not timm.is_model(spec.base):
        near = difflib.get_close_matches(spec.base, timm.list_models(), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()"
        raise SettingsError(f"network {spec.name!r}: timm has no model {spec.base!r}; {hint}")
    try:
        base = timm.create_model(spec.base, pretrained=False, in_chans=CHANNEL_COUNT, num_classes=0, **spec.base_kwargs)
    except Exception as error:  # noqa: BLE001 - any of timm's 1000 models may refuse arguments in a way of its own
        raise SettingsError(
            f"network {spec.name!r}: timm's {spec.base} does not take base_kwargs {dict(spec.base_kwargs)}: {error}"
        ) from error
    return base


class Classifier(nn.Linear):
    """Fully connected layer on float32 descriptors, computed in the layer's own precision.

    Args:
        features: length of a descriptor.
        outputs: number of logits.
        prior: the probability that every output starts at, after a sigmoid.
    """

    def __init__(self, features: int, outputs: int, prior: float) -> None:
        super().__init__(features, outputs)
        nn.init.constant_(self.bias, math.log(prior / (1 - prior)))

    def forward(self, descriptors: Tensor) -> Tensor:
        """(N, D) float -> (N, outputs) logits."""
        return super().forward(descriptors.to(self.weight.dtype))
