"""What training holds of each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.core.intensity import Intensity, IntensityRule, fit_intensity
from cellscribble.core.labels import UNLABELLED
from cellscribble.core.volume import ImageVolume


@dataclass(slots=True)
class Sample:
    """One training image with its strokes and whatever a method remembers about it.

    Attributes
    ----------
    image : ImageVolume, data (C, *spatial) numpy of the file's own dtype
    intensity : Intensity fitted to the whole image
    scribbles : (*spatial) int16, -1 unlabelled, 0..K-1; what the loss may see
    held_out : (*spatial) int16, the strokes kept back for scoring; -1 elsewhere
    mask : (*spatial) int16 dense labels, only for `full_supervision`
    memory : maps of the image's own shape that belong to the method (EMA map, proposals);
        (n, *spatial) float32 or uint8. Cropped and flipped with the image.
    """

    image: ImageVolume
    intensity: Intensity
    scribbles: npt.NDArray[np.int16]
    held_out: npt.NDArray[np.int16]
    mask: npt.NDArray[np.int16] | None = None
    memory: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.image.name

    def normalised(self) -> npt.NDArray[np.float32]:
        """The whole image as the network sees it, (C, *spatial) float32."""
        return self.intensity.apply(np.asarray(self.image.data))


def make_sample(
    image: ImageVolume,
    scribbles: npt.NDArray[np.int16],
    rule: IntensityRule,
    mask: npt.NDArray[np.int16] | None = None,
) -> Sample:
    """Bundle an image with its strokes.

    Raises
    ------
    InputError
        If their sizes differ, or the image is constant or holds NaN.
    """
    if tuple(scribbles.shape) != image.spatial_shape:
        raise InputError(
            f"strokes of {image.name!r} are {tuple(scribbles.shape)} px but the image is "
            f"{image.spatial_shape} px; draw on the same image, or crop both alike"
        )
    data = np.asarray(image.data)
    return Sample(
        image=image.with_data(data),
        intensity=fit_intensity(image.with_data(data), rule),
        scribbles=scribbles,
        held_out=np.full_like(scribbles, UNLABELLED),
        mask=mask,
    )


@dataclass(frozen=True, slots=True)
class Stroke:
    """One connected stroke: its class and the flat indices of its pixels in the image."""

    label: int
    pixels: npt.NDArray[np.int64]


def find_strokes(scribbles: npt.NDArray[np.int16], n_classes: int) -> list[Stroke]:
    """Connected components (diagonals connect) of each class, in raster order within a class."""
    structure = np.ones((3,) * scribbles.ndim, bool)
    strokes = []
    for label in range(n_classes):
        components, n = ndimage.label(scribbles == label, structure)
        if n == 0:
            continue
        flat = np.flatnonzero(components)
        ids = components.ravel()[flat]
        order = np.argsort(ids, kind="stable")
        bounds = np.searchsorted(ids[order], np.arange(2, n + 1))
        strokes += [Stroke(label, pixels) for pixels in np.split(flat[order], bounds)]
    return strokes


def middle_pixel(stroke: Stroke, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The stroke's own pixel nearest to its middle, which need not lie on a bent stroke."""
    at = np.array(np.unravel_index(stroke.pixels, shape))
    away = ((at - np.median(at, axis=1, keepdims=True)) ** 2).sum(axis=0)
    return np.asarray(at[:, away.argmin()])


def first_that_fit(order: Iterable[int], n_pixels: Sequence[int], most: float) -> list[int]:
    """Of images in this order, by number, those that fit into `most` pixels together; at least one."""
    chosen: list[int] = []
    n_chosen = 0
    for i in order:
        if chosen and n_chosen + n_pixels[i] > most:
            continue
        chosen.append(i)
        n_chosen += n_pixels[i]
    return chosen
