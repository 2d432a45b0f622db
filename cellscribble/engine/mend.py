"""What is left of a window of an image where a part of it cannot be read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.core.blocks import Slices, read_padded, relative
from cellscribble.core.errors import FileFormatError
from cellscribble.core.reading import reading
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.journal import DONE

CELL_PX = 256
"""Tried by itself where the image does not say what is packed together."""

MENDED = "mended"
"""Word of a block that was seen without a part of what it must see; facts follow it, see `Mended.word`."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A window of an image.

    pixels : (C, *window); what cannot be read is as the nearest pixel that can
    lost : (*window) bool, what cannot be read
    why : what was said of the first such part
    """

    pixels: npt.NDArray[Any]
    lost: npt.NDArray[np.bool_]
    why: str

    def word(self, read: Slices, block: Slices, halo_px: Sequence[int]) -> str:
        """For the journal: which box of the block may be wrong, what is lost within `halo_px` of it, and why."""
        box = []
        for axis, (r, b, halo) in enumerate(zip(read, block, halo_px, strict=True)):
            at = np.flatnonzero(self.lost.any(axis=tuple(a for a in range(self.lost.ndim) if a != axis)))
            start, stop = r.start + int(at[0]) - halo, r.start + int(at[-1]) + 1 + halo
            box.append([max(start, b.start), min(stop, b.stop)])
        if any(start >= stop for start, stop in box):
            return DONE  # its halo is rounded up to the network's stride, and only that was lost
        return f"{MENDED} {json.dumps({'box': box, 'message': self.why})}"


class _InCells:
    """An image that is read cell by cell, for `read_padded`: behind its channels one says where it cannot be read."""

    def __init__(self, image: ImageVolume) -> None:
        self._image, self.why = image, ""
        self.shape = (image.data.shape[0] + 1, *image.spatial_shape)
        self._cell_px = getattr(image.data, "chunk_px", None) or (CELL_PX,) * image.ndim

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        window = key[1:]
        out = np.zeros((self.shape[0], *(s.stop - s.start for s in window)), self._image.data.dtype)
        for cell in self._cells(window):
            place = relative(cell, window)
            try:
                with reading(self._image, cell):
                    out[:-1][(slice(None), *place)] = self._image.data[(slice(None), *cell)]
            except FileFormatError as error:
                out[-1][place] = 1
                self.why = self.why or str(error)
        return out

    def _cells(self, window: Slices) -> Iterator[Slices]:
        edges: list[list[slice]] = []
        for s, size in zip(window, self._cell_px, strict=True):
            inner = range((s.start // size + 1) * size, s.stop, size)
            edges.append([slice(a, b) for a, b in itertools.pairwise([s.start, *inner, s.stop])])
        return itertools.product(*edges)


def read_mended(image: ImageVolume, read: Slices) -> Mended:
    """What can be read of a window, as `read_padded` gives it. Raises FileFormatError if that is nothing."""
    cells = _InCells(image)
    found = read_padded(cells, read)
    pixels, lost = found[:-1], found[-1] > 0
    if lost.all():
        raise FileFormatError(cells.why)
    if lost.any():
        nearest = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
        pixels = np.stack([channel[tuple(nearest)] for channel in pixels])
    return Mended(pixels, lost, cells.why)
