"""The segmentation networks: image in, logits of background, border and interior out.

`DPNUNet` is the network of HPA-Cell-Segmentation (DPN-92 encoder, U-Net decoder) under its published parameter names;
`MiniUNet` is a small one with the same input and output.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import SegmentationSpec

# Output channels of the five encoder stages, at strides 2, 4, 8, 16, 32.
_DPN_CHANNELS = (64, 336, 704, 1552, 2688)


class DPNUNet(nn.Module):
    """DPN-92 encoder with a U-Net decoder, 139.1 M parameters; state-dict names are those of the published files.

    The encoder's blocks are timm's `dpn92`, regrouped into the published stages.

    Args:
        in_channels: channels of the input image.
        classes: channels of the output; the published networks have background, border, interior.
    """

    def __init__(self, in_channels: int = 3, classes: int = 3) -> None:
        super().__init__()
        blocks: Any = timm.create_model("dpn92", pretrained=False, in_chans=in_channels, num_classes=0).features
        stem = blocks.conv1_1
        stages = [nn.Sequential(stem.conv, stem.bn)]
        for stage in (2, 3, 4, 5):
            parts = [block for name, block in blocks.named_children() if name.startswith(f"conv{stage}_")]
            stages.append(nn.Sequential(*([blocks.conv1_pool] if stage == 2 else []), *parts))
        # timm ends the encoder with an ELU, for its classifier; the published one has a ReLU there as everywhere.
        blocks.conv5_bn_ac.bn.act = nn.ReLU(inplace=True)

        channels = _DPN_CHANNELS
        self.bottlenecks = nn.ModuleList(_Bottleneck(2 * n, n) for n in reversed(channels[:-1]))
        self.decoder_stages = nn.ModuleList(
            _Upsample(deep, shallow) for shallow, deep in zip(channels, channels[1:], strict=False)
        )
        self.last_upsample = _Upsample(channels[0], channels[0])
        self.final = nn.Sequential(nn.Conv2d(channels[0], classes, 3, padding=1))
        self.encoder_stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of an image batch.

        Args:
            x: (B, in_channels, H, W) float, standardised; H and W multiples of 32.

        Returns:
            (B, classes, H, W) logits.
        """
        skips = []
        for stage in self.encoder_stages:
            x = stage(x)
            # A dual path is a pair of tensors between the blocks of a stage and across stages.
            skips.append(torch.cat(x, dim=1) if isinstance(x, tuple) else x)
        x = skips.pop()
        for upsample, bottleneck in zip(reversed(self.decoder_stages), self.bottlenecks, strict=True):
            x = bottleneck(upsample(x), skips.pop())
        return self.final(self.last_upsample(x))


class _Upsample(nn.Module):
    """Nearest x2 upsampling, 3x3 convolution, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class _Bottleneck(nn.Module):
    """Joins the decoder's map with the encoder's: concatenation, 3x3 convolution, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.seq(torch.cat((x, skip), dim=1))


class MiniUNet(nn.Module):
    """A small U-Net with the contract of :class:`DPNUNet` (our choice; 0.92 M parameters at width 16).

    Five scales of two 3x3 convolutions each with batch normalisation; strides 2 to 32 down, nearest upsampling back.
    The first scale works at half resolution, where most of the cost would otherwise sit.

    Args:
        in_channels: channels of the input image.
        classes: channels of the output.
        width: channels at half resolution; the scales have 1, 2, 4, 6 and 8 times as many.
    """

    def __init__(self, in_channels: int = 3, classes: int = 3, width: int = 16) -> None:
        super().__init__()
        channels = [width * factor for factor in (1, 2, 4, 6, 8)]
        self.stem = _ConvNormAct(in_channels, width, stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(_ConvNormAct(shallow, deep, stride=2), _ConvNormAct(deep, deep))
            for shallow, deep in zip(channels, channels[1:], strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(_ConvNormAct(deep + shallow, shallow), _ConvNormAct(shallow, shallow))
            for shallow, deep in zip(channels, channels[1:], strict=False)
        )
        self.last = _ConvNormAct(width + in_channels, width)
        self.final = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) standardised image, H and W multiples of 32 -> (B, classes, H, W) logits."""
        image = x
        x = self.stem(x)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up in reversed(self.up):
            x = up(torch.cat((functional.interpolate(x, scale_factor=2.0, mode="nearest"), skips.pop()), dim=1))
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.final(self.last(torch.cat((x, image), dim=1)))


class _ConvNormAct(nn.Sequential):
    """3x3 convolution, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


def build_segmentation(spec: SegmentationSpec) -> nn.Module:
    """The network that a spec describes, with random weights.

    Raises:
        SettingsError: if the architecture does not take the spec's `kwargs`.
    """
    architectures: dict[str, type[nn.Module]] = {"dpn_unet": DPNUNet, "mini_unet": MiniUNet}
    try:
        return architectures[spec.architecture](**spec.kwargs)
    except TypeError as error:
        given = dict(spec.kwargs)
        raise SettingsError(f"segmentation network {spec.architecture!r} does not take {given}: {error}") from error
