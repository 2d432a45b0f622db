"""Where the results of a batch go; decided, and checked, before anything is computed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellscribble.core.errors import CellScribbleError, InputError, OutputError
from cellscribble.engine.publish import is_publishing
from cellscribble.io.atomic import is_zarr
from cellscribble.io.images import count_pixels, image_name, list_images

DEFAULT_OUT = Path("cellscribble_out")
"""Beside `runs`, in the folder where the command is typed: the images' own may be read-only."""

MAX_TIFF_PIXELS = 1 << 26
"""Labels of larger images are written as OME-Zarr, block by block."""

SMALL_FILE_BYTES = 4 << 20
"""No image that large hides in a file that small."""


@dataclass(frozen=True, slots=True)
class Job:
    """One image and the files made from it; `probability` and `overlay` None where not wanted.

    `to_zarr` says that labels and probability are OME-Zarr stores: the image is one, or too large for less.
    """

    image: Path
    name: str
    labels: Path
    provenance: Path
    probability: Path | None
    overlay: Path | None
    to_zarr: bool

    @property
    def files(self) -> list[Path]:
        """All that this job writes."""
        return [path for _, path in self.targets]

    @property
    def targets(self) -> list[tuple[str, Path]]:
        """The same with their names in the folder of an unfinished run; labels last."""
        named = [
            ("probability.zarr", self.probability),
            ("overlay.png", self.overlay),
            ("record.json", self.provenance),
            ("labels.zarr", self.labels),
        ]
        return [(inner, path) for inner, path in named if path is not None]

    @property
    def unfinished(self) -> Path:
        """Where a run that writes stores keeps what it has so far."""
        return self.labels.with_name(f"{self.name}_labels.unfinished")


def plan_jobs(
    inputs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    probability: bool = False,
    overlay: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> list[Job]:
    """One job for each image that `inputs` mean.

    Parameters
    ----------
    inputs : images, OME-Zarr stores, or folders of them
    out : folder of all results; by default `DEFAULT_OUT` for files and beside the image for a Zarr
    probability, overlay : wanted besides the labels
    overwrite : results that exist are replaced
    dry_run : folders are looked at only: nothing is made

    Raises
    ------
    InputError
        If an input does not exist, a folder holds no image, or two images have one name.
    OutputError
        If a result exists and `overwrite` is False, or a folder cannot be written to.
    """
    images = dict.fromkeys(image for given in inputs for image in list_images(given))
    jobs = [_job(image, out, probability=probability, overlay=overlay) for image in images]
    by_labels: dict[Path, Job] = {}
    for job in jobs:
        other = by_labels.setdefault(job.labels.resolve().with_suffix(""), job)
        if other is not job:
            raise InputError(
                f"{other.image} and {job.image} have one name, so both would be written to {job.labels}; "
                "predict them in two runs with another -o each"
            )
    # A run that was interrupted while it moved its results out has some there already; `check_targets` looks closer.
    existing = [path for job in jobs if not is_publishing(job.unfinished) for path in job.files if path.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise OutputError(f"{existing[0]}{more} exists already; give --overwrite, or another folder with -o")
    for folder in dict.fromkeys(job.labels.parent for job in jobs):
        _check_folder(folder, dry_run)
    return jobs


def _job(image: Path, out: str | Path | None, *, probability: bool, overlay: bool) -> Job:
    to_zarr = is_zarr(image) or _is_huge(image)
    if out is not None:
        folder = Path(out)
    else:
        folder = image.parent if is_zarr(image) else DEFAULT_OUT
    name, suffix = image_name(image), ".zarr" if to_zarr else ".tif"
    return Job(
        image=image,
        name=name,
        labels=folder / f"{name}_labels{suffix}",
        provenance=folder / f"{name}_labels.json",
        probability=folder / f"{name}_probability{suffix}" if probability else None,
        overlay=folder / f"{name}_overlay.png" if overlay else None,
        to_zarr=to_zarr,
    )


def _is_huge(image: Path) -> bool:
    """Whether the labels of a file are too large for a plain TIFF; the file's head tells."""
    try:
        if image.stat().st_size < SMALL_FILE_BYTES:
            return False
        return count_pixels(image) > MAX_TIFF_PIXELS
    except CellScribbleError:
        # It may open with --axes or --timepoint; if not, that is said when its turn comes.
        return False


def existing_folder(path: Path) -> Path:
    """`path` if it exists, or the nearest folder above that does."""
    return next((p for p in (path, *path.absolute().parents) if p.exists()), path)


def _check_folder(folder: Path, dry_run: bool) -> None:
    if dry_run:
        there = existing_folder(folder)
        if not (there.is_dir() and os.access(there, os.W_OK)):
            raise OutputError(f"cannot write into {folder}; choose another folder with -o")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write into {folder} ({error.strerror}); choose another folder with -o") from None
