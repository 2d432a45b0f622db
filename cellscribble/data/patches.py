"""Where training looks: patches on strokes and on unlabelled background."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
        self.classes = [frozenset(by_class) for by_class in self._strokes]
        """Which classes are stroked in each image."""
        self.look_at(range(len(samples)), {})

    def look_at(self, images: Sequence[int], memory_layout: Mapping[str, tuple[int, float]]) -> None:
        """Draw from these images only, by number, and cut these maps, as `Method.memory_layout` gives them."""
        self.memory_layout = memory_layout
        self._images = list(images)
        self._stroked = [i for i in images if self.classes[i]]

    def draw(self, rng: np.random.Generator) -> Patch:
        """One random patch."""
        if rng.random() < self.anywhere_share:
            index = self._images[int(rng.integers(len(self._images)))]
            centre = self._anywhere(index, rng)
        else:
            index = self._stroked[int(rng.integers(len(self._stroked)))]
            centre = self._on_stroke(index, rng)
        placement = draw_placement(centre, self.patch_px, self.augment, rng)
        patch = cut_patch(self.samples[index], placement, self.memory_layout)
        image = apply_intensity_change(patch.image, draw_intensity_change(self.augment, len(patch.image), rng))
        return Patch(image, patch.scribbles, patch.mask, patch.memory)

    def draw_batch(self, n: int, rng: np.random.Generator) -> list[Patch]:
        """`n` random patches that have exchanged pieces."""
        patches = [self.draw(rng) for _ in range(n)]
        piece_px = (self.augment.transplant_min_px, self.augment.transplant_max_px)
        return transplant(patches, self.augment.transplants, piece_px, rng)

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


def cut_patch(sample: Sample, placement: Placement, memory_layout: Mapping[str, tuple[int, float]]) -> Patch:
    """The patch of one sample at `placement`, without any change of intensity.

    memory_layout : the maps to cut, name -> (how many, value where the sample has no such map yet)
    """
    data = sample.image.data
    channels = [apply_placement(c, placement, order=1, outside=None) for c in data]
    memory: dict[str, npt.NDArray[Any]] = {}
    for name, (n_maps, unknown) in memory_layout.items():
        maps = sample.memory.get(name)
        if maps is None:
            memory[name] = np.full((n_maps, *placement.patch_px), unknown, np.float32)
        else:
            memory[name] = np.stack([apply_placement(m, placement, order=1, outside=None) for m in maps])
    mask = sample.mask
    return Patch(
        image=sample.intensity.apply(np.stack(channels)),
        scribbles=apply_placement(sample.scribbles, placement, order=0, outside=UNLABELLED),
        mask=None if mask is None else apply_placement(mask, placement, order=0, outside=UNLABELLED),
        memory=memory,
    )


def transplant(
    patches: Sequence[Patch], n_pieces: int, piece_px: tuple[int, int], rng: np.random.Generator
) -> list[Patch]:
    """Put rectangles of other patches of the batch, cut around strokes, anywhere into each patch.

    People stroke the middle of a cell and the middle of a gap. A network that sees far enough
    learns this geometry instead of the appearance: it calls the middle of a gap background and
    cannot tell about the dark rim beside a cell, where no stroke ever lies. A piece of background
    with its stroke, transplanted next to a cell, shows that darkness is background there too.
    After CutMix (Yun et al., ICCV 2019); image, strokes, mask and memory move together.

    Parameters
    ----------
    patches : at least one
    n_pieces : rectangles put into each patch
    piece_px : smallest and largest edge, px; drawn log-uniformly
    """
    stroked = [np.flatnonzero(p.scribbles != UNLABELLED) for p in patches]
    donors = [i for i, pixels in enumerate(stroked) if len(pixels)]
    out = []
    for patch in patches:
        copy = _copy(patch)
        for _ in range(n_pieces if donors else 0):
            donor = donors[int(rng.integers(len(donors)))]
            pixel = stroked[donor][int(rng.integers(len(stroked[donor])))]
            _transplant_piece(copy, patches[donor], int(pixel), piece_px, rng)
        out.append(copy)
    return out


def _copy(patch: Patch) -> Patch:
    return Patch(
        patch.image.copy(),
        patch.scribbles.copy(),
        None if patch.mask is None else patch.mask.copy(),
        {name: values.copy() for name, values in patch.memory.items()},
    )


def _transplant_piece(
    into: Patch, donor: Patch, pixel: int, piece_px: tuple[int, int], rng: np.random.Generator
) -> None:
    shape = np.array(into.scribbles.shape)
    size = np.exp(rng.uniform(math.log(piece_px[0]), math.log(piece_px[1]), size=len(shape))).astype(int)
    size = np.minimum(size, shape)
    at = np.array(np.unravel_index(pixel, tuple(shape)))
    source = np.clip(at - rng.integers(size), 0, shape - size)
    target = rng.integers(shape - size + 1)
    cut = tuple(slice(int(a), int(a + n)) for a, n in zip(source, size, strict=True))
    put = tuple(slice(int(a), int(a + n)) for a, n in zip(target, size, strict=True))
    into.image[(slice(None), *put)] = donor.image[(slice(None), *cut)]
    into.scribbles[put] = donor.scribbles[cut]
    if into.mask is not None and donor.mask is not None:
        into.mask[put] = donor.mask[cut]
    for name, values in into.memory.items():
        values[(slice(None), *put)] = donor.memory[name][(slice(None), *cut)]
