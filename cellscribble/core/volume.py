"""The one form an image has inside CellScribble: channels first, then space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cellscribble.core.errors import InputError

AXES_2D = "CYX"
AXES_3D = "CZYX"


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """One level of the pyramid that an image was read from, and where it lies in the file's own space.

    Pixel i of an axis has its centre at offset + i x scale: micrometres, or without a unit where the file gives none.
    One number for each spatial axis.

    shape : pixels
    scale : size of a pixel
    offset : of the first pixel's centre
    """

    shape: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]


def rounded_step(fine: int, coarse: int) -> float:
    """How many of `fine` pixels one of `coarse` stands for: a whole number where rounding explains the rest."""
    step = max(1, round(fine / coarse))
    return float(step) if coarse in (fine // step, -(-fine // step)) else fine / coarse


def relative_spacing(pixel_size_um: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """How far apart neighbours are on each axis, the finest 1; all 1 where the pixel size is not known."""
    size = pixel_size_um or (1.0,) * ndim
    return tuple(length / min(size) for length in size)


def plane_distance(pixel_size_um: Sequence[float] | None) -> float:
    """How far apart the planes of a volume lie, in pixels of the plane; 1 where the pixel size is not known."""
    z, *plane = relative_spacing(pixel_size_um, 3)
    return z / min(plane)


@dataclass(frozen=True, slots=True)
class ImageVolume:
    """An image or volume in canonical axis order.

    Parameters
    ----------
    data : (C, Y, X) or (C, Z, Y, X) array
        numpy, dask or zarr array; only ``shape``, ``dtype`` and slicing are relied on, so it may
        be larger than memory.
    axes : {"CYX", "CZYX"}
    pixel_size_um : tuple of float or None
        Micrometres per pixel, one for each spatial axis in axes order; None if the file does not say.
    name : str
        The image's name without folder and suffix; pairs it with its strokes and names its outputs.
    is_rgb : bool
        True when the channels are red, green, blue of one colour picture.
    channel_names : tuple of str
        One a channel, empty if the file does not say.
    origin : str
        How axes and pixel size were found, in words for the user: "axes ZYX from ImageJ metadata".
    levels : tuple of PyramidLevel
        The level that was read and the coarser ones of its file, so that what is made of it lies on them; empty if
        the file is no pyramid and does not say where its pixels lie.

    Raises
    ------
    InputError
        If axes and shape disagree, or the pixel size has another length than the space.
    """

    data: Any
    axes: str
    pixel_size_um: tuple[float, ...] | None = None
    name: str = ""
    is_rgb: bool = False
    channel_names: tuple[str, ...] = ()
    origin: str = ""
    levels: tuple[PyramidLevel, ...] = ()

    def __post_init__(self) -> None:
        if self.axes not in (AXES_2D, AXES_3D):
            raise InputError(f"axes are {self.axes!r}; expected 'CYX' or 'CZYX'")
        if len(self.data.shape) != len(self.axes):
            raise InputError(
                f"image {self.name!r} has shape {tuple(self.data.shape)} but axes {self.axes}; "
                "give the axes of the file with --axes"
            )
        if 0 in self.data.shape:
            raise InputError(f"image {self.name!r} is empty: shape {tuple(self.data.shape)}")
        if self.pixel_size_um is not None and len(self.pixel_size_um) != self.ndim:
            raise InputError(
                f"image {self.name!r} has {self.ndim} spatial axes but "
                f"{len(self.pixel_size_um)} pixel sizes {self.pixel_size_um}"
            )

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return len(self.axes) - 1

    @property
    def n_channels(self) -> int:
        return int(self.data.shape[0])

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """(Y, X) or (Z, Y, X), in pixels."""
        return tuple(int(n) for n in self.data.shape[1:])

    @property
    def n_pixels(self) -> int:
        """Pixels (voxels) of one channel."""
        return math.prod(self.spatial_shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Of the pixels, as `relative_spacing`."""
        return relative_spacing(self.pixel_size_um, self.ndim)

    def with_data(self, data: Any) -> ImageVolume:
        """The same image with other pixel values."""
        return replace(self, data=data)


def pixel_size_text(size: Sequence[float] | None) -> str:
    """ "0.325 µm", "0.28 x 0.13 x 0.13 µm" or "unknown"."""
    if size is None:
        return "unknown"
    values = [f"{v:.3g}" for v in size]
    return f"{values[0] if len(set(values)) == 1 else ' x '.join(values)} µm"
