"""Where the results of a batch go; decided, and checked, before anything is computed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellscribble.core.errors import InputError, OutputError
from cellscribble.io.atomic import is_zarr
from cellscribble.io.images import image_name, list_images

DEFAULT_OUT = Path("cellscribble_out")
"""Beside `runs`, in the folder where the command is typed: the images' own may be read-only."""


@dataclass(frozen=True, slots=True)
class Job:
    """One image and the files made from it; `probability` and `overlay` None where not wanted.

    `to_zarr` says that labels and probability are OME-Zarr stores, as the image is.
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
        return [p for p in (self.probability, self.overlay, self.provenance, self.labels) if p is not None]


def plan_jobs(
    inputs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    probability: bool = False,
    overlay: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """One job for each image that `inputs` mean.

    Parameters
    ----------
    inputs : images, OME-Zarr stores, or folders of them
    out : folder of all results; by default `DEFAULT_OUT` for files and beside the image for a Zarr
    probability, overlay : wanted besides the labels
    overwrite : results that exist are replaced

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
    existing = [path for job in jobs for path in job.files if path.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise OutputError(f"{existing[0]}{more} exists already; give --overwrite, or another folder with -o")
    for folder in dict.fromkeys(job.labels.parent for job in jobs):
        _check_folder(folder)
    return jobs


def _job(image: Path, out: str | Path | None, *, probability: bool, overlay: bool) -> Job:
    to_zarr = is_zarr(image)
    if out is not None:
        folder = Path(out)
    else:
        folder = image.parent if to_zarr else DEFAULT_OUT
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


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write into {folder} ({error.strerror}); choose another folder with -o") from None
