"""Where training looks: patches on strokes and on unlabelled background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.config import AugmentConfig
from cellscribble.core.labels import UNLABELLED
from cellscribble.data.augment import (
    Placement,
    apply_intensity_change,
    apply_placement,
    draw_intensity_change,
    draw_placement,
)
from cellscribble.data.samples import Sample, Stroke, find_strokes


@dataclass(frozen=True, slots=True)
class Patch:
    """One training patch; every array is moved by the same placement.

    image : (C, *patch) float32, normalised and changed in brightness
    scribbles : (*patch) int16, -1 unlabelled; also beyond the image's border
    mask : like scribbles, dense, or None
    memory : the method's maps, (n, *patch) float32; mirrored with the image beyond its border
    """

    image: npt.NDArray[np.float32]
    scribbles: npt.NDArray[np.int16]
    mask: npt.NDArray[np.int16] | None
    memory: dict[str, npt.NDArray[np.float32]]


class PatchSource:
    """Draws patches from the training images.

    An image is drawn first, so that an image with a thousand strokes does not drown one with
    five; then a class, then a stroke of it, then a pixel on the stroke as the patch's rough
    centre. A share of the patches lies anywhere, in any image: unlabelled background is where a
    network trained on strokes alone errs.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        n_classes: int,
        patch_px: tuple[int, ...],
        anywhere_share: float,
        augment: AugmentConfig,
    ) -> None:
        self.samples = samples
        self.patch_px = patch_px
        self.anywhere_share = anywhere_share
        self.augment = augment
        self._strokes: list[dict[int, list[Stroke]]] = []
        for sample in samples:
            by_class: dict[int, list[Stroke]] = {}
            for stroke in find_strokes(sample.scribbles, n_classes):
                by_class.setdefault(stroke.label, []).append(stroke)
            self._strokes.append(by_class)
        self._stroked = [i for i, by_class in enumerate(self._strokes) if by_class]

    def draw(self, rng: np.random.Generator) -> Patch:
        """One random patch."""
        if rng.random() < self.anywhere_share:
            index = int(rng.integers(len(self.samples)))
            centre = self._anywhere(index, rng)
        else:
            index = self._stroked[int(rng.integers(len(self._stroked)))]
            centre = self._on_stroke(index, rng)
        placement = draw_placement(centre, self.patch_px, self.augment, rng)
        patch = cut_patch(self.samples[index], placement)
        image = apply_intensity_change(patch.image, draw_intensity_change(self.augment, rng))
        return Patch(image, patch.scribbles, patch.mask, patch.memory)

    def _anywhere(self, index: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        shape = np.array(self.samples[index].scribbles.shape)
        return self._clamp(rng.random(len(shape)) * shape, shape)

    def _on_stroke(self, index: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        by_class = self._strokes[index]
        strokes = by_class[sorted(by_class)[int(rng.integers(len(by_class)))]]
        pixels = strokes[int(rng.integers(len(strokes)))].pixels
        shape = np.array(self.samples[index].scribbles.shape)
        pixel = np.array(np.unravel_index(pixels[int(rng.integers(len(pixels)))], tuple(shape)))
        jitter = (rng.random(len(shape)) - 0.5) * 0.5 * np.array(self.patch_px)
        return self._clamp(pixel + jitter, shape)

    def _clamp(self, centre: npt.NDArray[np.float64], shape: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Keep the patch inside the image where it fits; whole and half pixels stay on the grid."""
        half = (np.array(self.patch_px) - 1) / 2
        low, high = half, shape - 1 - half
        middle = (shape - 1) / 2
        centre = np.where(low <= high, np.clip(centre, low, np.maximum(low, high)), middle)
        # Whole-pixel offsets: a patch without rotation and zoom then copies pixels exactly.
        return np.asarray(np.floor(centre - half) + half)


def cut_patch(sample: Sample, placement: Placement) -> Patch:
    """The patch of one sample at `placement`, without any change of intensity."""
    data = sample.image.data
    channels = [apply_placement(c, placement, order=1, outside=None) for c in data]
    memory: dict[str, npt.NDArray[Any]] = {}
    for name, stored in sample.memory.items():
        maps = stored if stored.ndim > sample.scribbles.ndim else stored[None]
        memory[name] = np.stack([apply_placement(m, placement, order=1, outside=None) for m in maps])
    mask = sample.mask
    return Patch(
        image=sample.intensity.apply(np.stack(channels)),
        scribbles=apply_placement(sample.scribbles, placement, order=0, outside=UNLABELLED),
        mask=None if mask is None else apply_placement(mask, placement, order=0, outside=UNLABELLED),
        memory=memory,
    )
