"""Pairing images with their strokes, and saying what was understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cellscribble.core.errors import CellScribbleError, InputError
from cellscribble.core.hashes import sha256_of
from cellscribble.core.intensity import IntensityRule
from cellscribble.core.labels import BACKGROUND, UNLABELLED
from cellscribble.core.volume import ImageVolume, pixel_size_text
from cellscribble.data.samples import Sample, make_sample
from cellscribble.io.images import image_name, list_images
from cellscribble.io.scribble_files import stroke_files
from cellscribble.io.scribbles import Scribbles, align_classes
from cellscribble.train.masks import find_masks, read_mask
from cellscribble.train.pairing import check_names, open_with_strokes, raise_no_pair, strokes_of

EDGE_PX = 2
"""Strokes that all lie this close to one border are a mistake of the drawing program."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One image as it was understood; `scribbles` is None for an image without strokes.

    mask : (*spatial) int16 dense classes, only where labels were given to learn from
    """

    image: ImageVolume
    scribbles: Scribbles | None
    mask: np.ndarray | None = None

    @property
    def name(self) -> str:
        return self.image.name


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """All images with their strokes.

    classes : names, background first
    colors : RGB 0..255, one a class
    warnings : sentences for the user
    failures : name -> message of each file that could not be used
    """

    pairs: tuple[Pair, ...]
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    warnings: tuple[str, ...]
    failures: dict[str, str]

    @property
    def pixel_size_um(self) -> tuple[float, ...] | None:
        """The most frequent pixel size of the images."""
        return Counter(p.image.pixel_size_um for p in self.pairs).most_common(1)[0][0]

    @property
    def has_masks(self) -> bool:
        """Whether dense labels were given to learn from."""
        return self.pairs[0].mask is not None

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of the pixels of every image, of its strokes and labels: what the model was trained on."""
        out = {}
        for pair in self.pairs:
            out[pair.name] = sha256_of(pair.image.data)
            if pair.scribbles is not None:
                out[f"{pair.name} (strokes)"] = sha256_of(pair.scribbles.data)
            if pair.mask is not None:
                out[f"{pair.name} (labels)"] = sha256_of(pair.mask)
        return out

    def without_masks(self) -> TrainingSet:
        """The same set for the methods that must not see dense labels."""
        return replace(self, pairs=tuple(replace(p, mask=None) for p in self.pairs))

    @property
    def rule(self) -> IntensityRule:
        """Colour pictures keep their colours; everything else is normalised image by image."""
        return IntensityRule("range") if self.pairs[0].image.is_rgb else IntensityRule()


def open_training_set(
    images: Path,
    scribbles: Path,
    labels: Path | None = None,
    *,
    axes: str | None = None,
    timepoint: int | None = None,
    level: int = 0,
) -> TrainingSet:
    """Open and check everything before any training.

    labels : dense labels to learn from, for `full_supervision` only
    axes, timepoint, level : of the images, as in `open_image`; strokes and labels are of that level

    Raises
    ------
    InputError
        If no image has strokes (both folders' names are shown), images disagree in channels or
        dimensions, only one class is stroked, all strokes lie on one image border, or an image lacks
        its labels.
    """
    pairs, failures = [], {}
    paths = list_images(images)
    if scribbles.is_file() and len(paths) > 1:
        raise InputError(
            f"{scribbles} is one stroke file, but {images} holds {len(paths)} images; "
            "give the folder of stroke files, or the one image that it belongs to"
        )
    check_names(paths)
    masks = {} if labels is None else find_masks(images, labels, paths)
    for path in paths:
        try:
            pairs.append(Pair(*open_with_strokes(path, scribbles, axes, timepoint, level)))
        except CellScribbleError as error:
            failures[path.name] = str(error)
    if not any(p.scribbles for p in pairs):
        raise_no_pair(images, scribbles, failures)
    pairs = _align(pairs)
    with_strokes = [p for p in pairs if p.scribbles is not None]
    _check_alike(pairs)
    first = max((p.scribbles for p in with_strokes if p.scribbles), key=lambda s: len(s.class_names))
    n_classes = 1 + max(int(p.scribbles.data.max()) for p in with_strokes if p.scribbles)
    _check_classes(with_strokes, n_classes)
    names = tuple(first.class_names[:n_classes])
    read = {p.name: p.scribbles is not None for p in pairs}
    warnings = (*_warnings(pairs, names), *_unused_strokes(images, scribbles, paths, read))
    if labels is not None:
        pairs = [replace(p, mask=read_mask(masks[p.name], p.image.spatial_shape, n_classes)) for p in pairs]
    return TrainingSet(tuple(pairs), names, tuple(first.colors[:n_classes]), warnings, failures)


def samples_of(training_set: TrainingSet) -> list[Sample]:
    """Samples for the loop; an image without strokes is all unlabelled."""
    out = []
    for pair in training_set.pairs:
        shape = pair.image.spatial_shape
        # Copies: holding strokes out changes them, and a training set may serve for several runs.
        strokes = pair.scribbles.data.copy() if pair.scribbles else np.full(shape, UNLABELLED, np.int16)
        mask = None if pair.mask is None else pair.mask.copy()
        out.append(make_sample(pair.image, strokes, training_set.rule, mask))
    return out


def _align(pairs: Sequence[Pair]) -> list[Pair]:
    """Give a class the same number in all images, also where ROIs name it."""
    aligned = iter(align_classes([p.scribbles for p in pairs if p.scribbles]))
    return [Pair(p.image, next(aligned) if p.scribbles else None) for p in pairs]


def _check_alike(pairs: Sequence[Pair]) -> None:
    first = pairs[0].image
    for pair in pairs[1:]:
        image = pair.image
        if (image.n_channels, image.axes, image.is_rgb) != (first.n_channels, first.axes, first.is_rgb):
            raise InputError(
                f"images differ: {first.name!r} is {_kind(first)}, {image.name!r} is {_kind(image)}; "
                "train on images of one kind, or give --axes"
            )


def _kind(image: ImageVolume) -> str:
    return f"{image.axes} with {'RGB colours' if image.is_rgb else f'{image.n_channels} channels'}"


def _check_classes(pairs: Sequence[Pair], n_classes: int) -> None:
    counts = np.zeros(n_classes, int)
    for pair in pairs:
        assert pair.scribbles is not None
        data = pair.scribbles.data
        counts += np.bincount(data[data != UNLABELLED], minlength=n_classes)
    present = np.flatnonzero(counts)
    if len(present) < 2:
        only = "background" if present[0] == BACKGROUND else f"class {present[0]}"
        raise InputError(
            f"only {only} is stroked ({counts.sum()} pixels in {len(pairs)} images); "
            "draw at least one stroke on background and one on a cell"
        )
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        raise InputError(
            f"class {missing[0]} has no stroke though class {n_classes - 1} has; "
            "number the classes without gaps: 1 background, 2 first class, 3 second class"
        )
    if all(_on_border(p.scribbles.data) for p in pairs if p.scribbles):
        raise InputError(
            f"all strokes lie within {EDGE_PX} px of an image border; that is a frame and no drawing: "
            "export the strokes again and look at them"
        )


def _unused_strokes(images: Path, scribbles: Path, paths: Sequence[Path], read: Mapping[str, bool]) -> list[str]:
    """Sentences about stroke files in which nothing was found, or that belong to no image.

    read : of each image that could be read, whether it has strokes
    """
    if not scribbles.is_dir():
        return []
    names = [image_name(path) for path in paths]
    own = {name: strokes_of(path, scribbles) for name, path in zip(names, paths, strict=True) if name in read}
    empty = [file.name for name, files in own.items() if not read[name] for file in files]
    used = {file.name for files in own.values() for file in files}
    of_others = [name for name in names if name not in read]
    # Beside the images lie other files too.
    unused = [
        file.name
        for file in ([] if images.is_dir() and images.samefile(scribbles) else stroke_files(scribbles))
        if file.name not in used and not file.name.startswith(tuple(of_others))
    ]
    out = []
    if unused:
        out.append(f"{len(unused)} stroke files fit no image by their names ({_some(unused)}) and were not used")
    if empty:
        out.append(
            f"{len(empty)} stroke files hold no strokes ({_some(empty)}); in a painted copy of the image only pure "
            "colours count"
        )
    return out


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def _on_border(strokes: np.ndarray) -> bool:
    inner = strokes[(..., *(slice(EDGE_PX, -EDGE_PX),) * 2)]
    return bool((inner == UNLABELLED).all())


def _warnings(pairs: Sequence[Pair], names: Sequence[str]) -> tuple[str, ...]:
    out = []
    stroked = [p for p in pairs if p.scribbles]
    for label, name in enumerate(names):
        having = [p.name for p in stroked if p.scribbles and (p.scribbles.data == label).any()]
        if len(having) == 1 and len(stroked) > 1:
            out.append(
                f"class {name!r} is stroked in one image only ({having[0]}); stroke it in a second one, "
                "or the network may learn the image instead of the class"
            )
    for pair in stroked:
        assert pair.scribbles is not None
        if pair.scribbles.overlapping_px:
            n = pair.scribbles.overlapping_px
            out.append(f"{pair.name}: strokes of two classes overlap on {n} pixels; the later stroke wins there")
        if pair.scribbles.unread:
            out.append(f"{pair.name}: these ROIs name no class and were left out: {', '.join(pair.scribbles.unread)}")
    bare = [p.name for p in pairs if p.scribbles is None]
    if bare:
        out.append(f"{len(bare)} images have no strokes ({_some(bare)}); they serve for pseudo-labels only")
    sizes = Counter(p.image.pixel_size_um for p in pairs)
    if len(sizes) > 1:
        counts = ", ".join(f"{pixel_size_text(size)} in {n}" for size, n in sizes.most_common())
        out.append(f"pixel sizes differ between images: {counts}; the model takes the most frequent one")
    elif pairs[0].image.ndim == 3 and None in sizes:
        out.append(
            "the volumes do not say how far apart their planes are: taken to be one pixel; "
            "set it in the images (Fiji: Image > Properties), cells are told apart by their shape"
        )
    return tuple(out)
