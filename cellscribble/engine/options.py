"""What a prediction can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cellscribble.core.errors import InputError
from cellscribble.engine.shards import Shard


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What `cellscribble predict` can be told; names and meaning as its flags.

    `as_classes`, `threshold`, `block_px`, `device`, `rescale`, `ignore_pixel_size`, `planes` as in `predict`;
    `axes`, `timepoint`, `level` as in `open_image`, but `level` None is the one nearest to the model's pixel
    size; `format`, `into_image` as in `plan_jobs`; `skip_empty` and `on_error` concern images that are segmented
    block by block, `ome_zarr` results that are OME-Zarr stores; `cellprofiler` as in
    `cellscribble.engine.cellprofiler`. Of `workers` (local processes), `scheduler` (of dask.distributed) and `shard`
    (which of how many, from 1) one may be given; they say who does the work, not what comes out. `max_memory` is bytes
    for the whole program with its local workers, and for each worker of a scheduler; `dry_run` plans, says so, and
    writes nothing.

    Raises
    ------
    InputError
        If options exclude each other.
    """

    as_classes: bool = False
    probability: bool = False
    uncertainty: bool = False
    overlay: bool = False
    overwrite: bool = False
    threshold: float | None = None
    block_px: tuple[int, ...] | None = None
    device: str = "auto"
    rescale: bool = False
    ignore_pixel_size: bool = False
    planes: bool = False
    axes: str | None = None
    timepoint: int | None = None
    level: int | None = None
    skip_empty: bool = True
    on_error: str = "fail"
    ome_zarr: str = "0.4"
    format: str = "auto"
    into_image: str | None = None
    cellprofiler: bool = False
    workers: int | None = None
    scheduler: str | None = None
    shard: Shard | None = None
    max_memory: int | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.workers, self.scheduler, self.shard)) > 1:
            raise InputError("--workers, --scheduler and --shard exclude each other; give one")
        if self.cellprofiler and self.shard is not None:
            raise InputError("--cellprofiler writes one folder for all images, so --shard cannot share it; give one")

    @property
    def fitting(self) -> dict[str, Any]:
        """How an image is put to a model, by the names of `check_fit`."""
        return {"rescale": self.rescale, "ignore_pixel_size": self.ignore_pixel_size, "planes": self.planes}

    @property
    def lazy(self) -> bool:
        """Whether images by blocks stay on the disk, however small: to leave out damage, and to save memory."""
        return self.on_error == "skip" or self.max_memory is not None
