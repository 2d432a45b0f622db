"""Random changes of a training patch: draw first, then apply.

One `Placement` moves image, strokes and every memory map together, so a map of the method stays
on the image it belongs to. `apply_*` are exact and have no randomness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.config import AugmentConfig


@dataclass(frozen=True, slots=True)
class Placement:
    """Patch coordinates -> image coordinates: x = matrix @ patch + offset, in pixels."""

    matrix: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    patch_px: tuple[int, ...]


def draw_placement(
    centre: npt.NDArray[np.float64],
    patch_px: tuple[int, ...],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Placement:
    """A random flip, quarter turn, rotation and zoom that puts `centre` in the patch's middle."""
    ndim = len(patch_px)
    matrix = np.eye(ndim)
    plane = _rotation(0.5 * np.pi * rng.integers(4))
    if config.rotate and rng.random() < 0.5:
        plane = _rotation(rng.uniform(0, 2 * np.pi)) @ plane
    if rng.random() < 0.5:
        zoom = np.exp(rng.uniform(-1, 1) * np.log(config.scale))
        plane = plane * zoom
        # z is sampled on its own grid: a zoom there would have to blur sections.
    matrix[-2:, -2:] = plane
    matrix = matrix * rng.choice([-1.0, 1.0], size=ndim)[:, None]
    middle = (np.array(patch_px) - 1) / 2
    offset = centre - matrix @ middle
    return Placement(matrix, offset, patch_px)


def _rotation(angle: float) -> npt.NDArray[np.float64]:
    # Rounded so that quarter turns are exact and sample pixels, not between them.
    c, s = np.round(np.cos(angle), 12), np.round(np.sin(angle), 12)
    return np.array([[c, -s], [s, c]])


def apply_placement(data: npt.NDArray[Any], placement: Placement, *, order: int, outside: float | None) -> Any:
    """Sample the patch from `data` (*spatial) by `order` 0 (nearest) or 1 (linear).

    Beyond the image's border `outside` is filled in, or the image mirrored where it is None.
    Returns an array of `placement.patch_px` and the dtype of `data` (float32 for order 1).
    """
    return ndimage.affine_transform(
        data,
        placement.matrix,
        placement.offset,
        output_shape=placement.patch_px,
        order=order,
        mode="mirror" if outside is None else "constant",
        cval=0.0 if outside is None else outside,
        prefilter=False,
        output=np.float32 if order else data.dtype,
    )


@dataclass(frozen=True, slots=True)
class IntensityChange:
    """x -> (x - 0.5) * contrast + 0.5 + brightness, channel by channel.

    contrast, brightness : (C,) float32
    """

    contrast: npt.NDArray[np.float32]
    brightness: npt.NDArray[np.float32]


def draw_intensity_change(config: AugmentConfig, n_channels: int, rng: np.random.Generator) -> IntensityChange:
    """A change common to all channels; where there are several, also one of each for itself.

    Images come normalised, so that how bright a pixel is in its image tells cell from background:
    large common changes unlearn that. Stains and exposures differ channel by channel.
    """
    log_contrast = np.full(n_channels, rng.uniform(-1, 1) * np.log(config.contrast))
    brightness = np.full(n_channels, rng.uniform(-1, 1) * config.brightness)
    if n_channels > 1:
        log_contrast += rng.uniform(-1, 1, n_channels) * np.log(config.channel_contrast)
        brightness += rng.uniform(-1, 1, n_channels) * config.channel_brightness
    return IntensityChange(np.exp(log_contrast).astype(np.float32), brightness.astype(np.float32))


def apply_intensity_change(image: npt.NDArray[np.float32], change: IntensityChange) -> npt.NDArray[np.float32]:
    """Change `image` (C, *spatial)."""
    each = (slice(None), *(None,) * (image.ndim - 1))
    half = np.float32(0.5)
    return np.asarray((image - half) * change.contrast[each] + (half + change.brightness[each]))
