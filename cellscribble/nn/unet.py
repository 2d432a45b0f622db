"""The light network: a U-Net made for two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cellscribble.nn.layers import CONV, conv_block, upsample
from cellscribble.nn.trim import Trim


class LightUNet(nn.Module):
    """U-Net (Ronneberger et al., MICCAI 2015) whose wide layers start at half resolution.

    A stride-2 stem does nearly all the work on a quarter of the pixels; one thin branch at full
    resolution keeps the place of the edges. About 0.7 M parameters and 40 GFLOP a megapixel
    in 2D, against 106 of a plain U-Net of width 16.

    Parameters
    ----------
    in_channels, out_channels : int
    ndim : {2, 3}
    strides : one tuple of ndim ints a level; the first belongs to the stem. (1, 2, 2) keeps the
        sections of an anisotropic volume apart.
    widths : channels of each level, beginning at the stem.

    Input (B, C, *spatial) float32, each axis a multiple of `stride_multiple`; output
    (B, out_channels, *spatial) logits, with a `Trim` without the halo.
    """

    can_trim: ClassVar[bool] = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        strides: Sequence[Sequence[int]],
        widths: Sequence[int] = (24, 48, 96, 128),
        full_width: int = 8,
    ) -> None:
        super().__init__()
        self.ndim, self.in_channels = ndim, in_channels
        self.strides = [tuple(s) for s in strides]
        self.full = conv_block(ndim, in_channels, full_width)
        inputs = [in_channels, *widths[:-1]]
        self.encoders = nn.ModuleList(
            nn.Sequential(conv_block(ndim, a, b, stride), conv_block(ndim, b, b))
            for a, b, stride in zip(inputs, widths, self.strides, strict=True)
        )
        skips = [full_width, *widths[:-1]]
        outputs = [2 * full_width, *widths[:-1]]
        # 1x1 convolutions narrow the coarse map before it is enlarged: the cheap place to do it.
        self.narrow = nn.ModuleList(
            conv_block(ndim, deep, skip, kernel=1)
            for deep, skip in zip([*outputs[1:], widths[-1]], skips, strict=True)
        )
        self.decoder_widths = tuple(reversed(outputs))
        """Channels of the maps of `decode`."""
        self.decoders = nn.ModuleList(
            conv_block(ndim, 2 * skip, out) for skip, out in zip(skips, outputs, strict=True)
        )
        self.classify = CONV[ndim](outputs[0], out_channels, 1)

    @property
    def stride_multiple(self) -> tuple[int, ...]:
        """Input sizes and block origins must be multiples of this, px on each axis."""
        product = torch.tensor(self.strides).prod(dim=0)
        return tuple(int(n) for n in product)

    def innermost_blocks(self) -> list[nn.Module]:
        """The five blocks furthest from the image: the coarsest one, two before and two after it."""
        return [*self.encoders[-3:], *self.decoders[-2:]]

    def trim(self, sides: Tensor, halo_px: Sequence[int]) -> Trim:
        """For a block with this halo on these sides, see `Trim`."""
        return Trim(sides, halo_px, self.strides, finest_px=2, reach_px=1)

    def forward(self, image: Tensor, trim: Trim | None = None) -> Tensor:
        logits: Tensor = self.classify(self.decode(image, trim)[-1])
        return logits if trim is None else trim.rest(logits)

    def decode(self, image: Tensor, trim: Trim | None = None) -> list[Tensor]:
        """The decoder's maps, the coarsest first; the last one has the image's size, with `trim` what it leaves."""
        skips = [self.full(image if trim is None else trim.at(0, image))]
        x = image
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        x = skips.pop()
        maps = []
        for level in reversed(range(len(self.decoders))):
            x, skip = self.narrow[level](x), skips[level]
            if trim is not None:
                x = trim.below(level, x)
                skip = skip if level == 0 else trim.at(level, skip)
            x = upsample(x, self.strides[level])
            x = self.decoders[level](torch.cat([x, skip], dim=1))
            maps.append(x)
        return maps
