"""Where the results of a batch go; decided, and checked, before anything is computed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cellscribble.core.errors import InputError, OutputError
from cellscribble.engine.into_image import IntoImage, into_image
from cellscribble.engine.publish import is_publishing
from cellscribble.engine.shards import Shard, part
from cellscribble.io.images import count_pixels, image_name, is_ome_zarr, list_images
from cellscribble.io.remote import is_url

DEFAULT_OUT = Path("cellscribble_out")
"""Beside `runs`, in the folder where the command is typed: the images' own may be read-only."""

AUTO, ZARR, TIFF = "auto", "zarr", "tiff"
FORMS = (AUTO, ZARR, TIFF)

MAX_TIFF_PIXELS = 1 << 26
"""Labels of larger images are written as OME-Zarr, block by block; where a TIFF is wanted, as a tiled pyramid."""


@dataclass(frozen=True, slots=True)
class Job:
    """One image and the files made from it; `probability`, `uncertainty` and `overlay` None where not wanted.

    image : path, or the text of a URL
    to_zarr : labels, probability and uncertainty are OME-Zarr stores, otherwise TIFFs
    by_blocks : the image is segmented block by block, otherwise in memory
    unfinished : where a run by blocks keeps what it has so far
    into : the place of the labels, where they become part of their image
    done : the same command has made all of it already, before it was stopped
    begun : it was stopped while it wrote these files, which may be replaced
    """

    image: Path | str
    name: str
    labels: Path
    provenance: Path
    probability: Path | None
    uncertainty: Path | None
    overlay: Path | None
    to_zarr: bool
    by_blocks: bool
    unfinished: Path
    into: IntoImage | None
    done: bool = False
    begun: bool = False

    @property
    def files(self) -> list[Path]:
        """All that this job writes."""
        return [path for _, path in self.targets]

    @property
    def targets(self) -> list[tuple[str, Path]]:
        """The same with their names in the folder of an unfinished run; labels last."""
        suffix = ".zarr" if self.to_zarr else ".tif"
        named = [
            ("probability" + suffix, self.probability),
            ("uncertainty" + suffix, self.uncertainty),
            ("overlay.png", self.overlay),
            ("record.json", self.provenance),
            ("labels" + suffix, self.labels),
        ]
        return [(inner, path) for inner, path in named if path is not None]


def plan_jobs(
    inputs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    probability: bool = False,
    uncertainty: bool = False,
    overlay: bool = False,
    overwrite: bool = False,
    shard: Shard | None = None,
    form: str = AUTO,
    into: str | None = None,
    dry_run: bool = False,
    is_ours: Callable[[Job], bool] | None = None,
) -> list[Job]:
    """One job for each image that `inputs` mean.

    Parameters
    ----------
    inputs : images, OME-Zarr stores, folders of them, or URLs
    out : folder of all results; by default `DEFAULT_OUT` for files, beside the image for a Zarr, and the
        current folder for a URL
    probability, uncertainty, overlay : wanted besides the labels
    overwrite : results that exist are replaced
    shard : of images that are segmented in memory only this one's part is taken; others are shared block by block
    form : of the results, "zarr" or "tiff"; "auto" is OME-Zarr for an OME-Zarr or a huge image
    into : name under which labels are put into their image, which has to be an OME-Zarr
    dry_run : folders are looked at only: nothing is made
    is_ours : whether what is there was made by the same command; None asks nothing. Of several images those that
        are done are left as they are then; if all are, they exist already

    Raises
    ------
    InputError
        If an input does not exist, a folder holds no image, two images have one name, or options
        contradict each other.
    OutputError
        If a result exists and `overwrite` is False, or a folder cannot be written to.
    """
    if into is not None and (out is not None or form == TIFF):
        raise InputError(
            f"--into-image {into} puts labels into the image, so --out and --format tiff do not apply; leave them out"
        )
    images = dict.fromkeys(image for given in inputs for image in ([given] if is_url(given) else list_images(given)))
    jobs = [
        _job(image, out, form, into, probability=probability, uncertainty=uncertainty, overlay=overlay)
        for image in images
    ]
    by_labels: dict[Path, Job] = {}
    for job in jobs:
        other = by_labels.setdefault(job.labels.resolve().with_suffix(""), job)
        if other is not job:
            raise InputError(
                f"{other.image} and {job.image} have one name, so both would be written to {job.labels}; "
                "predict them in two runs with another -o each"
            )
    if shard is not None:
        whole = [job for job in jobs if not job.by_blocks]
        jobs = [job for job in jobs if job.by_blocks or job in whole[part(len(whole), shard)]]
    if is_ours is not None and not overwrite:
        marked = [_marked(job, is_ours) for job in jobs]
        jobs = jobs if shard is None and all(job.done for job in marked) else marked
    # A run that was interrupted while it moved its results out has some there already; `check_targets` looks closer.
    open_jobs = [job for job in jobs if not (job.done or job.begun or is_publishing(job.unfinished))]
    existing = [path for job in open_jobs for path in job.files if path.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise OutputError(f"{existing[0]}{more} exists already; give --overwrite, or another folder with -o")
    # The folder of labels inside an image is made when there are labels to put there.
    for folder in dict.fromkeys(f for job in jobs for f in (job.provenance.parent, job.into and job.into.image) if f):
        _check_folder(folder, dry_run)
    return jobs


def _job(
    image: Path | str,
    out: str | Path | None,
    form: str,
    into: str | None,
    *,
    probability: bool,
    uncertainty: bool,
    overlay: bool,
) -> Job:
    is_store = is_ome_zarr(image)
    is_huge = (form == TIFF or not is_store) and _is_huge(image)
    to_zarr = form == ZARR or (form == AUTO and (is_store or is_huge))
    if out is not None:
        folder = Path(out)
    elif is_url(image):
        folder = Path()
    else:
        folder = Path(image).parent if is_store else DEFAULT_OUT
    place = None if into is None else into_image(image, into)
    name, suffix = image_name(image), ".zarr" if to_zarr else ".tif"
    stem = name if into is None else f"{name}_{into}"
    return Job(
        image=image,
        name=name,
        labels=folder / f"{stem}_labels{suffix}" if place is None else place.path,
        provenance=folder / f"{stem}_labels.json",
        probability=folder / f"{stem}_probability{suffix}" if probability else None,
        uncertainty=folder / f"{stem}_uncertainty{suffix}" if uncertainty else None,
        overlay=folder / f"{stem}_overlay.png" if overlay else None,
        to_zarr=to_zarr,
        by_blocks=to_zarr or is_huge,
        unfinished=folder / f"{stem}_labels.unfinished",
        into=place,
    )


def _marked(job: Job, is_ours: Callable[[Job], bool]) -> Job:
    """The job, `done` or `begun` if it is."""
    if not job.provenance.exists() or not is_ours(job):
        return job
    done = all(path.exists() for path in job.files)
    # Those by blocks know themselves how far they came.
    return replace(job, done=done, begun=not done and not job.by_blocks)


def _is_huge(image: Path | str) -> bool:
    """Whether the labels of an image are too large for a plain TIFF; its head tells."""
    try:
        return count_pixels(image) > MAX_TIFF_PIXELS
    except InputError:
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
