"""The pieces all networks share, for two and three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def conv_block(ndim: int, n_in: int, n_out: int, stride: int | Sequence[int] = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU.

    BatchNorm, not InstanceNorm or GroupNorm: its statistics do not depend on the tile, so blocks
    equal the whole image.
    """
    step = stride if isinstance(stride, int) else tuple(stride)
    return nn.Sequential(
        CONV[ndim](n_in, n_out, kernel, stride=step, padding=kernel // 2, bias=False),  # type: ignore[arg-type]
        NORM[ndim](n_out),
        nn.ReLU(inplace=True),
    )


def upsample(x: Tensor, stride: Sequence[int]) -> Tensor:
    """Nearest upsampling by an integer factor on each axis; exact for any block origin."""
    return F.interpolate(x, scale_factor=[float(s) for s in stride], mode="nearest")
