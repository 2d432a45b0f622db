"""From images and a model to the boxes where it is least sure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellscribble.bundle import Model
from cellscribble.core.blocks import BlockGrid, block_size, padded_block, read_padded
from cellscribble.core.errors import BatchError, CellScribbleError, InputError
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.reading import reading
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.empty import EmptyTest
from cellscribble.engine.level import choose_level
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import DEFAULT_OUT
from cellscribble.engine.steps import decide_classes
from cellscribble.infer.blockwise import default_block_px
from cellscribble.infer.fit import check_fit
from cellscribble.infer.planes import sees_planes
from cellscribble.infer.regions import Boxes, boxes_of_block, choose, joined
from cellscribble.infer.resample import Resampled, seen_as
from cellscribble.infer.runner import Runner
from cellscribble.io.atomic import check_writable, remove
from cellscribble.io.averages import Averages
from cellscribble.io.box_rois import MarkedBox, save_box_rois
from cellscribble.io.images import image_name, list_images, open_image
from cellscribble.io.remote import is_url
from cellscribble.io.roi_classes import SUGGESTION

ENDING = "_suggestions.zip"

MAX_BLOCKS = 64
"""Of an image with more blocks that are not empty, a seeded sample of so many stands for it."""

MAX_EMPTY = 16
"""So many empty blocks are read for each that is not: a slide may be mostly glass."""

MAX_BOXES = 20_000
"""Kept of all images together while they are gone through."""

Say = Callable[[float, str], None]
"""Called with the number of images done so far, and the name of the one at work."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One box, in pixels of the level that its image was read at.

    rank : from 1
    corner, size_px : (y, x)
    plane : of a stack the one to draw on, from 0
    score : mean square of the model's doubt, 0 to 1
    """

    rank: int
    image: Path | str
    corner: tuple[int, int]
    size_px: tuple[int, int]
    plane: int | None
    score: float


@dataclass(frozen=True, slots=True)
class Suggested:
    """suggestions : best first; files : the ROI zips; notes : what a user should know, one sentence each."""

    suggestions: list[Suggestion]
    files: list[Path]
    notes: list[str]


def suggest_files(
    inputs: Sequence[str | Path],
    model: Model,
    out: str | Path | None,
    options: PredictOptions,
    *,
    n: int,
    size_px: int,
    say: Say = lambda done, name: None,
) -> Suggested:
    """The `n` boxes of all images together where the model is least sure, written as ImageJ ROIs.

    Memory grows neither with an image nor with their number: one block is at work at a time, and of an image with
    more than `MAX_BLOCKS` that are not empty a sample, the same each time.

    Parameters
    ----------
    inputs : images, OME-Zarr stores, folders of them, or URLs
    out : a zip if there is one image, or a folder for NAME_suggestions.zip of each image that has boxes
    options : device, axes, timepoint, level, planes, rescale, ignore_pixel_size and overwrite are heeded
    size_px : side of a box, px; in a stack as deep as it is wide, as far as pixel sizes tell

    Raises
    ------
    InputError
        If there is no image, or one zip is to hold the boxes of several.
    OutputError
        If a result exists (without overwrite) or cannot be written.
    BatchError
        If some of several images failed; what was found in the others is written.
    CellScribbleError
        As `predict`, if the only image failed.
    """
    images = list(dict.fromkeys(i for given in inputs for i in ([given] if is_url(given) else list_images(given))))
    targets = _targets(images, out)
    for target in targets:
        check_writable(target, options.overwrite)
    runner = Runner(model, options.device)
    notes: dict[str, None] = {}
    shapes: dict[int, tuple[int, int]] = {}
    failures: dict[str, str] = {}
    averages, n_averaged = Averages(model.path), 0
    found: list[Boxes] = []
    for k, path in enumerate(images):
        say(k, image_name(path))
        try:
            boxes, shape, said, averaged = _look_at(path, k, model, runner, averages, options, size_px, say)
        except (CellScribbleError, OSError) as error:
            if len(images) == 1:
                raise
            failures[str(path)] = str(error)
            continue
        notes |= dict.fromkeys(said)
        shapes[k] = shape
        n_averaged += averaged
        found = [joined([*found, *boxes]).least_sure(MAX_BOXES)] if boxes else found
    if averages:
        what = "where the model disagrees with its own average from training"
        notes[f"{what} counts as doubt too, in the {n_averaged} of {len(images)} images that it learnt from"] = None
    chosen = choose(found[0], n) if found else None
    suggestions = [] if chosen is None else list(_suggestions(chosen, images))
    files: list[Path] = []
    for k, (path, target) in enumerate(zip(images, targets, strict=True)):
        own = [_marked(s, len(suggestions)) for s in suggestions if s.image == path]
        if own:
            target.parent.mkdir(parents=True, exist_ok=True)
            files += save_box_rois(target, own, shapes[k], options.overwrite)
        elif target.exists():
            # Boxes of an older model, and now there are none here.
            remove(target)
    if failures:
        raise BatchError(failures, len(images) - len(failures))
    return Suggested(suggestions, files, list(notes))


def _targets(images: Sequence[Path | str], out: str | Path | None) -> list[Path]:
    place = DEFAULT_OUT if out is None else Path(out)
    if place.suffix.lower() == ".zip":
        if len(images) > 1:
            raise InputError(f"{place} is one zip but there are {len(images)} images; give a folder with -o")
        return [place]
    targets = [place / f"{image_name(path)}{ENDING}" for path in images]
    if len(set(targets)) < len(targets):
        raise InputError("two images have one name, so their boxes would go to one file; give them in two runs")
    return targets


def _look_at(
    path: Path | str,
    number: int,
    model: Model,
    runner: Runner,
    averages: Averages,
    options: PredictOptions,
    size_px: int,
    say: Say,
) -> tuple[list[Boxes], tuple[int, int], list[str], bool]:
    """The least sure boxes of one image in its own pixels, its shape (y, x), notes, and whether it has an average."""
    level = choose_level(path, model.metadata, options)
    image = open_image(path, axes=options.axes, timepoint=options.timepoint, level=level.index)
    fit = check_fit(image, model.metadata, levels_um=level.pixel_sizes_um, **options.fitting)
    seen = image if fit.shape is None else seen_as(image, fit.shape)
    scale = np.divide(seen.spatial_shape, image.spatial_shape)
    box_px = [
        max(1, min(n, round(side * s)))
        for n, side, s in zip(seen.spatial_shape, _sides(image, size_px), scale, strict=True)
    ]
    parts: list[Boxes] = []
    average: Any = averages.of(image, len(fit.metadata.classes))
    if average is not None and fit.shape is not None:
        average = Resampled(average, fit.shape)
    looks = _Looks(seen, replace(model, metadata=fit.metadata), runner.seen_as(fit.metadata), box_px, number, average)
    for boxes in looks.all(lambda share: say(number + share, image_name(path))):
        parts = [joined([*parts, boxes]).least_sure(MAX_BOXES)]
    notes = [*fit.notes, *([level.words] if level.words else []), *looks.notes]
    parts = [_scaled(boxes, scale, image.spatial_shape) for boxes in parts]
    return parts, (image.spatial_shape[-2], image.spatial_shape[-1]), notes, average is not None


def _sides(image: ImageVolume, size_px: int) -> list[float]:
    """The sides of a box in px of the image; along z as long as in the plane, in µm if known."""
    if image.ndim == 2:
        return [size_px, size_px]
    size = image.pixel_size_um
    return [size_px if size is None else size_px * min(size[1:]) / size[0], size_px, size_px]


class _Looks:
    """Goes through the blocks of an image, or a sample of them; `notes` afterwards says which."""

    def __init__(
        self, image: ImageVolume, model: Model, runner: Runner, box_px: Sequence[int], number: int, average: Any
    ) -> None:
        self._image, self._meta, self._runner = image, model.metadata, runner
        self._box_px, self._number, self._average = box_px, number, average
        self.notes: list[str] = []
        block = default_block_px(image.ndim, sees_planes(self._meta))
        # A block is at least as large as a box, so that each holds one.
        block = tuple(max(b, side) for b, side in zip(block, box_px, strict=True))
        block = block_size(image.spatial_shape, block, self._meta.stride_multiple)
        self._grid = BlockGrid(image.spatial_shape, block)
        with reading(image):
            self._intensity = fit_intensity(image, self._meta.intensity)

    def all(self, say: Callable[[float], None]) -> Iterator[Boxes]:
        """The boxes of each block that is not empty."""
        meta, grid = self._meta, self._grid
        is_background = lambda p: not decide_classes(p).any()  # noqa: E731
        empty = EmptyTest(self._runner, self._intensity, meta.halo_px, meta.stride_multiple, is_background)
        order = np.random.default_rng(0).permutation(len(grid)) if len(grid) > MAX_BLOCKS else range(len(grid))
        n_seen = 0
        for n_read, k in enumerate(itertools.islice(order, MAX_BLOCKS * MAX_EMPTY)):
            if n_seen == MAX_BLOCKS:
                break
            block = padded_block(grid, int(k), meta.halo_px, meta.stride_multiple)
            with reading(self._image):
                pixels = read_padded(self._image.data, block.read)
            if not empty(pixels):
                n_seen += 1
                pixels = self._intensity.apply(pixels)
                keep = (slice(None), *block.keep)
                corner = [s.start for s in block.write]
                side = [min(b, s.stop - s.start) for b, s in zip(self._box_px, block.write, strict=True)]
                seen = self._runner(pixels, block.keep)
                average = None if self._average is None else self._average[(slice(None), *block.write)]
                yield boxes_of_block(pixels[keep], seen, corner, grid.shape, side, self._number, average)
            say(max(n_seen / min(MAX_BLOCKS, len(grid)), (n_read + 1) / min(len(grid), MAX_BLOCKS * MAX_EMPTY)))
        if n_seen == MAX_BLOCKS < len(grid):
            self.notes.append(f"{self._image.name}: {n_seen} of {len(grid)} blocks were looked at, drawn at random")


def _scaled(boxes: Boxes, scale: np.ndarray, shape: Sequence[int]) -> Boxes:
    """Boxes of a resampled image in the pixels of the image itself."""
    if (scale == 1).all():
        return boxes
    size = np.minimum(np.maximum(1, np.rint(boxes.size / scale)), shape).astype(np.int64)
    corner = np.clip(np.rint(boxes.corner / scale).astype(np.int64), 0, np.asarray(shape) - size)
    plane = np.minimum((boxes.plane / scale[0]).astype(np.int64), shape[0] - 1)
    return replace(boxes, corner=corner, size=size, plane=plane)


def _suggestions(chosen: Boxes, images: Sequence[Path | str]) -> Iterator[Suggestion]:
    stack = chosen.corner.shape[1] == 3
    for k in range(len(chosen)):
        (y, x), (height, width) = chosen.corner[k, -2:].tolist(), chosen.size[k, -2:].tolist()
        plane = int(chosen.plane[k]) if stack else None
        path = images[int(chosen.image[k])]
        yield Suggestion(k + 1, path, (y, x), (height, width), plane, float(chosen.score[k]))


def _marked(one: Suggestion, n: int) -> MarkedBox:
    name = f"{SUGGESTION}_{one.rank:0{max(2, len(str(n)))}d}"
    return MarkedBox(name, one.corner, one.size_px, one.plane, one.score)
