"""What a prediction can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What `cellscribble predict` can be told; names and meaning as its flags.

    `as_classes`, `threshold`, `block_px`, `device`, `rescale`, `ignore_pixel_size` as in `predict`;
    `axes`, `timepoint`, `level` as in `open_image`, but `level` None is the one nearest to the model's pixel
    size; `skip_empty`, `on_error` and `ome_zarr` concern results that are OME-Zarr stores only.
    `max_memory` is bytes for the whole process; `dry_run` plans, says so, and writes nothing.
    """

    as_classes: bool = False
    probability: bool = False
    overlay: bool = False
    overwrite: bool = False
    threshold: float | None = None
    block_px: tuple[int, ...] | None = None
    device: str = "auto"
    rescale: bool = False
    ignore_pixel_size: bool = False
    axes: str | None = None
    timepoint: int | None = None
    level: int | None = None
    skip_empty: bool = True
    on_error: str = "fail"
    ome_zarr: str = "0.4"
    max_memory: int | None = None
    dry_run: bool = False
