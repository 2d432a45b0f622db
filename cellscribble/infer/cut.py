"""A model's graph cut, block by block: see `segment.graph_cut` for what is cut and what it approximates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import ModelMetadata
from cellscribble.core.blocks import BlockGrid, Slices, block_size, relative
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.reading import reading
from cellscribble.core.volume import ImageVolume, relative_spacing
from cellscribble.infer.blockwise import allocate, default_block_px
from cellscribble.infer.planes import sees_planes
from cellscribble.segment.graph_cut import GraphCut, overlap_px, put_on_sides

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BlockCut:
    """The cut of a model.

    settings : as the model has them
    spacing : distance of neighbours on each axis
    overlap_px : what a block sees around it, px
    """

    settings: GraphCut
    spacing: tuple[float, ...]
    overlap_px: tuple[int, ...]

    def __call__(self, grid: BlockGrid, k: int, probability: Floats, image: Floats, origin: Slices) -> Floats:
        """Block `k` of a grid as the cut decides it, (K, *block) float32: see `put_on_sides`.

        probability, image : (K, *window) and (C, *window), normalised, of a window of the image that holds the
            block and `overlap_px` around it
        origin : this window; it may reach past the image's end
        """
        window, box = grid.window(k, self.overlap_px), grid.box(k)
        seen = (slice(None), *relative(window, origin))
        return put_on_sides(probability[seen], image[seen], self.settings, self.spacing, relative(box, window))


def block_cut(meta: ModelMetadata) -> BlockCut | None:
    """The cut of a model as the image sees it (`fit.Fit`); None if it has none.

    Raises
    ------
    InputError
        If its settings are out of range.
    """
    if meta.graph_cut is None:
        return None
    spacing = relative_spacing(meta.pixel_size_um, meta.ndim)
    return BlockCut(GraphCut.from_dict(meta.graph_cut), spacing, overlap_px(spacing, meta.halo_px))


def cut_blocks(
    image: ImageVolume, probability: Floats, meta: ModelMetadata, cut: BlockCut, block_px: Sequence[int] | None = None
) -> Floats:
    """All blocks of an image, (K, *spatial) float32; parameters and errors as `blockwise.predict_probability`."""
    shape = image.spatial_shape
    block_px = default_block_px(len(shape), sees_planes(meta)) if block_px is None else block_px
    grid = BlockGrid(shape, block_size(shape, block_px, meta.stride_multiple))
    with reading(image):
        intensity = fit_intensity(image, meta.intensity)
    out = allocate(probability.shape)
    for k in range(len(grid)):
        window = grid.window(k, cut.overlap_px)
        with reading(image):
            pixels = intensity.apply(np.asarray(image.data[(slice(None), *window)]))
        out[(slice(None), *grid.box(k))] = cut(grid, k, probability[(slice(None), *window)], pixels, window)
    return out
