"""What a U-Net need not compute of a block that is read with its halo.

A block is read with what the network sees around the pixels that are wanted of it. The encoder needs all of that. A
map of the decoder is only looked at from nearby: by its own convolutions a pixel or two around the map made of it.
So at each level the decoder may begin that much inside of the halo, and what is wanted comes out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor


class Trim:
    """How much each level of a U-Net leaves out, and where.

    Each map is left out on whole pixels of the next coarser one, so that it is cut before it is enlarged.

    Parameters
    ----------
    sides : (ndim, 2) int64: 1 where a block has its halo, before it and behind it on each axis; 0 where the image
        ends there instead. A tensor, so that the exported network asks for it.
    halo_px : around a block, px on each axis, on the network's stride
    strides : of each level, the finest first
    finest_px, reach_px : how far the convolutions look that make the finest map, and any other map, of the decoder
    """

    def __init__(
        self,
        sides: Tensor,
        halo_px: Sequence[int],
        strides: Sequence[Sequence[int]],
        finest_px: int,
        reach_px: int,
    ) -> None:
        self.sides, self.halo_px, self.strides = sides, tuple(halo_px), strides
        begin = [max(0, (h - finest_px) // s * s) for h, s in zip(halo_px, strides[0], strict=True)]
        self.left_out: list[list[int]] = [begin]
        """Pixels of each level's map, finest first, that are not computed on a side with a halo."""
        for stride, coarser in pairwise(strides):
            begin = [max(0, (b // s - reach_px) // c * c) for b, s, c in zip(begin, stride, coarser, strict=True)]
            self.left_out.append(begin)

    def at(self, level: int, x: Tensor) -> Tensor:
        """A whole map of `level`, 0 the finest, without what is left out."""
        return self._cut(x, self.left_out[level])

    def below(self, level: int, x: Tensor) -> Tensor:
        """What `level` needs of the next coarser map, which has been cut for its own level."""
        begin = [b // s for b, s in zip(self.left_out[level], self.strides[level], strict=True)]
        is_cut = level + 1 < len(self.left_out)
        done = self.left_out[level + 1] if is_cut else [0] * len(begin)
        return self._cut(x, [b - d for b, d in zip(begin, done, strict=True)])

    def rest(self, x: Tensor) -> Tensor:
        """The finest map, cut for its level, without the rest of the halo."""
        return self._cut(x, [h - b for h, b in zip(self.halo_px, self.left_out[0], strict=True)])

    def _cut(self, x: Tensor, px: Sequence[int]) -> Tensor:
        window = [
            slice(self.sides[axis, 0] * n, x.shape[2 + axis] - self.sides[axis, 1] * n) if n else slice(None)
            for axis, n in enumerate(px)
        ]
        return x[(slice(None), slice(None), *window)]
