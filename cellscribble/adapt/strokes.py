"""From an image and its strokes to the pieces of it that adapting looks at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import ModelMetadata
from cellscribble.core.blocks import BlockGrid, padded_block, padded_shape, read_padded
from cellscribble.core.errors import InputError
from cellscribble.core.intensity import Intensity
from cellscribble.core.labels import UNLABELLED
from cellscribble.core.reading import reading
from cellscribble.core.volume import AXES_2D, ImageVolume
from cellscribble.data.samples import Sample
from cellscribble.infer.runner import Runner
from cellscribble.io.paint import class_title
from cellscribble.io.scribbles import Scribbles, number_as, read_scribbles

BLOCK_PX = {2: (256, 256), 3: (32, 96, 96)}
"""Of what is read at once, by number of axes."""

Floats = npt.NDArray[np.float32]


def read_strokes(path: Path, image: ImageVolume, meta: ModelMetadata, timepoint: int | None = None) -> Scribbles:
    """The strokes of an image, numbered as the model's classes.

    Raises
    ------
    InputError
        As `read_scribbles`; if there are strokes of classes that the model does not have, or of one class only.
    """
    # Colours of a paint program are read off the picture; a volume is not.
    pixels = np.asarray(image.data) if image.axes == AXES_2D else None
    strokes = read_scribbles(path, image.spatial_shape, image=pixels, timepoint=timepoint)
    # Where classes have numbers only, those of a file and of a model mean each other in order.
    if strokes.class_names == tuple(class_title(i) for i in range(len(strokes.class_names))):
        known = "numbered " + ", ".join(f"{i + 1} {name}" for i, name in enumerate(meta.classes))
        if (highest := int(strokes.data.max(initial=-1))) >= len(meta.classes):
            raise InputError(
                f"{path} has strokes of class number {highest + 1}, but the model has classes {known}; "
                "draw with these numbers, or train a model with all the classes"
            )
    else:
        known = "named " + ", ".join(meta.classes)
        strokes = number_as(strokes, meta.classes[1:], path)
    drawn = [meta.classes[i] for i in np.unique(strokes.data) if i != UNLABELLED]
    if len(drawn) < 2:
        raise InputError(
            f"{path} has strokes of {drawn[0] if drawn else 'no class'} only; draw strokes of two of the model's "
            f"classes at least, {known}"
        )
    return strokes


def images_2d(image: ImageVolume, strokes: npt.NDArray[np.int16]) -> list[tuple[ImageVolume, npt.NDArray[np.int16]]]:
    """The sections of a stack that have strokes, each an image of its own."""
    out = []
    for z in np.flatnonzero((strokes != UNLABELLED).any(axis=(1, 2))):
        with reading(image):
            data = np.asarray(image.data[:, z])
        size = image.pixel_size_um and image.pixel_size_um[1:]
        section = replace(image, data=data, axes=AXES_2D, pixel_size_um=size, levels=())
        out.append((section, strokes[z]))
    return out


def pieces_of(
    image: ImageVolume, strokes: npt.NDArray[np.int16], intensity: Intensity, runner: Runner
) -> list[tuple[Sample, Floats]]:
    """The blocks with strokes, each as a sample and with its features (F, *block) float32.

    Read and computed with what the network must see around them; the rest of the image is not read.
    """
    meta = runner.metadata
    grid = BlockGrid(image.spatial_shape, padded_shape(BLOCK_PX[image.ndim], meta.stride_multiple))
    out = []
    for k in range(len(grid)):
        own = strokes[grid.box(k)]
        if not (own != UNLABELLED).any():
            continue
        block = padded_block(grid, k, meta.halo_px, meta.stride_multiple)
        with reading(image):
            pixels = read_padded(image.data, block.read)
        keep = (slice(None), *block.keep)
        features = runner(intensity.apply(pixels), block.keep)
        crop = replace(image, data=np.ascontiguousarray(pixels[keep]), levels=())
        out.append(
            (Sample(crop, intensity, own.copy(), np.full_like(own, UNLABELLED)), np.ascontiguousarray(features))
        )
    return out
