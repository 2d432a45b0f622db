"""A network of two fields of view: a sharp one, and a wide one at low resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cellscribble.nn.layers import CONV, conv_block, upsample
from cellscribble.nn.trim import Trim
from cellscribble.nn.unet import LightUNet

SHARP_WIDTHS = (24, 48, 64)
WIDE_WIDTHS = (48, 96, 128)
SHRINK_LEVELS = 2
POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}


class MultiFieldUNet(LightUNet):
    """Two U-Nets side by side, after the multi-field-of-view network of Harada et al., EMBC 2019.

    The sharp one sees a pixel's surroundings as they are. The wide one sees the image shrunk four times, and so four
    times as far at the same cost. The last maps of both are joined before the last layer. In a volume the wide one has
    a level less: what it sees must be read around each block, along three axes.

    Parameters
    ----------
    strides : as for `LightUNet`, five levels: those of the sharp network are the first three; the image is shrunk by
        the first two, and the wide network has those that follow

    Input and output as `LightUNet`, which it is not trimmed as: each field has a halo of its own.
    """

    can_trim = False

    def __init__(self, in_channels: int, out_channels: int, ndim: int, strides: Sequence[Sequence[int]]) -> None:
        super().__init__(in_channels, out_channels, ndim, strides[: len(SHARP_WIDTHS)], SHARP_WIDTHS)
        n_wide = len(WIDE_WIDTHS) - (ndim == 3)
        wide_strides = strides[SHRINK_LEVELS : SHRINK_LEVELS + n_wide]
        self.shrink = _product(strides[:SHRINK_LEVELS])
        self.wide = LightUNet(in_channels, out_channels, ndim, wide_strides, WIDE_WIDTHS[:n_wide])
        self.wide.classify = nn.Identity()  # type: ignore[assignment]
        width = self.decoder_widths[-1]
        self.join = conv_block(ndim, width + self.wide.decoder_widths[-1], width)
        self.classify = CONV[ndim](width, out_channels, 1)
        self._multiple = tuple(a * b for a, b in zip(self.shrink, _product(wide_strides), strict=True))

    @property
    def stride_multiple(self) -> tuple[int, ...]:
        """Input sizes and block origins must be multiples of this, px on each axis."""
        return self._multiple

    def decode(self, image: Tensor, trim: Trim | None = None) -> list[Tensor]:
        """The decoder's maps, the coarsest first; the last one, which has the image's size, joins both fields."""
        assert trim is None
        *maps, sharp = super().decode(image)
        wide = self.wide.decode(POOL[self.ndim](image, self.shrink))[-1]
        return [*maps, self.join(torch.cat([sharp, upsample(wide, self.shrink)], dim=1))]


def _product(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))
