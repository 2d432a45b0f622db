"""Pixels that a network must guess from their surroundings: a neighbour stands in for each.

Source: Krull, Buchholz & Jug, "Noise2Void - Learning Denoising from Single Noisy Images", CVPR 2019, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BlindSpots:
    """Hidden pixels of a batch, and the neighbour that is shown in place of each.

    shape : of the batch without its channels, (B, *spatial)
    hidden, neighbours : (n,) int64 flat indices into `shape`
    """

    shape: tuple[int, ...]
    hidden: Tensor
    neighbours: Tensor

    def hide(self, image: Tensor) -> Tensor:
        """`image` (B, C, *spatial) as the network may see it: hidden in all channels, so that none betrays another."""
        pixels = image.movedim(1, -1).flatten(0, -2).clone()
        pixels[self.hidden] = pixels[self.neighbours]
        return pixels.reshape(*self.shape, -1).movedim(-1, 1)

    def at_hidden(self, maps: Tensor) -> Tensor:
        """(n, *features) values of `maps` (B, *features, *spatial) at the hidden pixels."""
        n_axes = len(self.shape) - 1
        return maps.flatten(-n_axes).movedim(-1, 1).flatten(0, 1)[self.hidden]

    @property
    def patch(self) -> Tensor:
        """(n,) int64: the patch of the batch that a hidden pixel lies in."""
        return self.hidden // int(np.prod(self.shape[1:]))


def draw_blind_spots(shape: Sequence[int], share: float, radius_px: int, rng: np.random.Generator) -> BlindSpots:
    """Hide pixels of a batch, each behind a neighbour in its own section that is not the pixel itself.

    Parameters
    ----------
    shape : (B, *spatial); the last two axes are more than 2 `radius_px` long
    share : of the pixels that are hidden, 0..1; at least one is
    radius_px : how far away the neighbour is at most, along each of the last two axes. In a volume it is of the
        same section, since sections lie further apart than pixels
    """
    n_pixels = int(np.prod(shape))
    hidden = rng.choice(n_pixels, size=max(1, round(share * n_pixels)), replace=False, shuffle=False)
    place = np.array(np.unravel_index(hidden, tuple(shape)))
    # Of all steps in the window the middle one, which goes nowhere, is left out.
    width = 2 * radius_px + 1
    step = rng.integers(width * width - 1, size=len(hidden))
    step += step >= width * width // 2
    offset = np.stack(np.divmod(step, width)) - radius_px
    outside = (place[-2:] + offset < 0) | (place[-2:] + offset >= np.array(shape[-2:])[:, None])
    # Turned round at the border, not clipped: a clipped step could end where it began.
    place[-2:] += np.where(outside, -offset, offset)
    neighbours = np.ravel_multi_index(tuple(place), tuple(shape))
    return BlindSpots(tuple(shape), torch.from_numpy(hidden), torch.from_numpy(neighbours))
