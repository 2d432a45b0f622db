"""Patches collated for one training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cellscribble.data.patches import Patch


@dataclass(frozen=True, slots=True)
class Batch:
    """B patches as tensors.

    image : (B, C, *patch) float32, channels last in memory
    scribbles : (B, *patch) int64, -1 unlabelled
    mask : (B, *patch) int64 dense labels, or None
    memory : name -> (B, n, *patch) float32
    """

    image: Tensor
    scribbles: Tensor
    mask: Tensor | None
    memory: dict[str, Tensor]


def collate(patches: Sequence[Patch], device: torch.device) -> Batch:
    """Stack patches and move them to the device."""
    image = torch.from_numpy(np.stack([p.image for p in patches]))
    layout = torch.channels_last if image.ndim == 4 else torch.channels_last_3d
    masks = [p.mask for p in patches if p.mask is not None]
    return Batch(
        image=image.to(device, memory_format=layout),
        scribbles=_labels([p.scribbles for p in patches], device),
        mask=_labels(masks, device) if len(masks) == len(patches) else None,
        memory={
            name: torch.from_numpy(np.stack([p.memory[name] for p in patches])).to(device)
            for name in patches[0].memory
        },
    )


def _labels(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device, torch.int64)
