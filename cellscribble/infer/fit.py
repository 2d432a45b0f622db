"""Whether an image fits a model: dimensions, channels, pixel size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cellscribble.bundle import ModelMetadata
from cellscribble.core.errors import InputError, ModelError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer.planes import over_planes

TOLERANCE = 0.2
"""Share by which pixel sizes may differ: networks see cells 20 % larger or smaller as the same."""

BY_CUT = (
    "what is cell is decided by a graph cut, block by block; near the faces of blocks a few pixels may fall "
    "otherwise than in one cut of the whole"
)


@dataclass(frozen=True, slots=True)
class Fit:
    """How an image is put to a model.

    metadata : the model's; of a 2D model that goes over the planes of a stack as that of a 3D one
    shape : spatial shape in which the network sees it; None for the image's own
    notes : what a user should know, one sentence each
    """

    metadata: ModelMetadata
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


def check_fit(
    image: ImageVolume,
    meta: ModelMetadata,
    *,
    rescale: bool = False,
    ignore_pixel_size: bool = False,
    planes: bool = False,
    levels_um: Sequence[tuple[float, ...] | None] = (),
) -> Fit:
    """Find how `image` is put to the model.

    planes : a 2D model sees each plane of a stack
    levels_um : pixel sizes of the image's pyramid, for what is said if none fits

    Raises
    ------
    ModelError
        If dimensions or channels differ, or the pixel size by more than `TOLERANCE` and neither
        `rescale` nor `ignore_pixel_size` is given.
    InputError
        If both are given, or `rescale` without a pixel size on both sides.
    """
    if rescale and ignore_pixel_size:
        raise InputError("--rescale and --ignore-pixel-size exclude each other; give one")
    notes: tuple[str, ...] = ()
    if planes and image.ndim == 3 and meta.ndim == 2:
        meta, said = over_planes(meta, image)
        notes = (said,)
    if meta.graph_cut is not None:
        notes += (BY_CUT,)
    _check_dimensions(image, meta)
    notes += _check_channels(image, meta)
    if ignore_pixel_size:
        return Fit(meta, None, notes)
    have, want = image.pixel_size_um, meta.pixel_size_um
    if have is None or want is None:
        who = "the image does not" if have is None else "the model does not"
        if rescale:
            raise InputError(
                f"--rescale needs both pixel sizes, but {who} say its own; set it in the image "
                "(Fiji: Image > Properties), or leave --rescale out"
            )
        return Fit(meta, None, (*notes, f"{who} say its pixel size: objects are taken to be as large as in training"))
    ratios = [h / w for h, w in zip(have, want, strict=True)]
    if all(1 / (1 + TOLERANCE) <= ratio <= 1 + TOLERANCE for ratio in ratios):
        return Fit(meta, None, notes)
    if not rescale:
        listed = ", ".join(f"{i}: {format_um(size)}" for i, size in enumerate(levels_um))
        raise ModelError(
            f"image {image.name!r} has pixels of {format_um(have)} but the model was trained on "
            f"{format_um(want)}; --rescale resamples the image for the network, --ignore-pixel-size goes on "
            "as it is" + (f", --level takes another of its levels ({listed})" if len(levels_um) > 1 else "")
        )
    shape = tuple(max(1, round(n * r)) for n, r in zip(image.spatial_shape, ratios, strict=True))
    return Fit(meta, shape, (*notes, f"resampled from {format_um(have)} to the model's {format_um(want)}"))


def _check_dimensions(image: ImageVolume, meta: ModelMetadata) -> None:
    if image.axes == meta.axes:
        return
    if meta.ndim == 2:
        remedy = "--planes puts it to each plane and joins the objects in 3D; or train on stacks"
    else:
        remedy = "give a z-stack (if it is one, --axes names its axes), or train on single planes"
    raise ModelError(
        f"the model segments {meta.ndim}D images ({meta.axes}) but image {image.name!r} is "
        f"{image.ndim}D ({image.axes} {tuple(image.data.shape)}); {remedy}"
    )


def _check_channels(image: ImageVolume, meta: ModelMetadata) -> tuple[str, ...]:
    want = f"{len(meta.channels)} channel{'s' if len(meta.channels) > 1 else ''} ({', '.join(meta.channels)})"
    kind = "RGB" if image.is_rgb else ", ".join(image.channel_names) or "unnamed"
    if image.n_channels != len(meta.channels):
        if image.is_rgb and len(meta.channels) == 1:
            remedy = "turn the picture grey (Fiji: Image > Type > 8-bit)"
        elif meta.is_rgb:
            remedy = "turn the image into a colour picture (Fiji: Image > Type > RGB Color)"
        else:
            remedy = "give the channels the model was trained on, in this order (Fiji: Image > Color)"
        raise ModelError(f"the model expects {want}, image {image.name!r} has {image.n_channels} ({kind}): {remedy}")
    if image.is_rgb != meta.is_rgb:
        return (f"the model was trained on {want}{', a colour picture' if meta.is_rgb else ''}; this image is {kind}",)
    if image.channel_names and not image.is_rgb and image.channel_names != meta.channels:
        return (f"channels are called {kind}; the model was trained on {', '.join(meta.channels)}",)
    return ()


def format_um(pixel_size_um: Sequence[float] | None) -> str:
    """ "0.5 x 0.25 µm", or "unknown"."""
    if pixel_size_um is None:
        return "unknown"
    return " x ".join(f"{value:.4g}" for value in pixel_size_um) + " µm"
