"""Finishing what shards have begun: joining, numbers, the pyramid, and the results to their places."""

from __future__ import annotations

import time
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

from cellscribble._version import __version__
from cellscribble.bundle import open_model
from cellscribble.core.errors import InputError
from cellscribble.engine.batch import jobs_for
from cellscribble.engine.job import read_job
from cellscribble.engine.one_image import describe_image, report_done
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import Job
from cellscribble.engine.side_by_side import Report
from cellscribble.engine.zarr_job import segment_to_zarr
from cellscribble.infer.fit import check_fit
from cellscribble.io.atomic import is_zarr
from cellscribble.io.images import image_name, open_image

_ENDING = "_labels.unfinished"


def stitch(out: str | Path, report: Report, overwrite: bool = False) -> list[Job]:
    """Finish the runs at `out`; none is left where all are finished already.

    Parameters
    ----------
    out : a folder NAME_labels.unfinished, the labels it is to become, the image, or a folder of results
    overwrite : replace results that exist, also where the shards were not told so

    Raises
    ------
    InputError
        If there is nothing at `out`, or a part is missing; the message names the shards to run again.
    CellScribbleError
        As `segment_to_zarr`.
    """
    folders = find_unfinished(Path(out))
    return [_stitch(index, folder, report, overwrite) for index, folder in enumerate(folders)]


def find_unfinished(out: Path) -> list[Path]:
    """The folders of unfinished runs that `out` means; none if these are finished already. Raises InputError."""
    if out.is_dir() and not is_zarr(out) and not out.name.endswith(_ENDING):
        found = sorted(out.glob(f"*{_ENDING}"))
        finished = any(out.glob("*_labels.*"))
    else:
        name = out.name.rpartition("_labels.")[0] or image_name(out)
        found = [path for path in [out.with_name(name + _ENDING)] if path.is_dir()]
        finished = any(path != out.with_name(name + _ENDING) for path in out.parent.glob(f"{escape(name)}_labels.*"))
    if not found and not finished:
        raise InputError(
            f"nothing unfinished at {out}; give NAME{_ENDING}, the folder in which it is, or the image that the "
            "shards were given"
        )
    return found


def _stitch(index: int, folder: Path, report: Report, overwrite: bool) -> Job:
    start = time.perf_counter()
    known = read_job(folder)
    if known is None or known["key"] is None:
        raise InputError(f"{folder} holds no run that was begun; run its shards")
    key, record = known["key"], known["facts"]["record"]
    if key["cellscribble"] != __version__:
        raise InputError(
            f"{folder} was begun by CellScribble {key['cellscribble']}, this is {__version__}; finish it with that one"
        )
    options = _options(record, overwrite)
    model = open_model(record["model"]["path"])
    image_path: str = record["image"]["path"]
    (job,) = jobs_for([image_path], None if options.into_image else folder.parent, options)
    if job.unfinished.name != folder.name:
        raise InputError(f"{folder} is not what {image_path} is segmented in; give it its name {job.unfinished.name}")
    level = options.level or 0
    image = open_image(image_path, axes=options.axes, timepoint=options.timepoint, level=level, lazy=options.lazy)
    report("image", index=index, image=image_path, **describe_image(image), level=level, why_level="")

    def progress(done: float, total: float, words: str = "") -> None:
        report("progress", index=index, name=job.name, done=done, total=total, words=words)

    fit = check_fit(image, model.metadata, **options.fitting)
    found = segment_to_zarr(job, image, fit, model, None, options, record, progress)
    assert found is not None
    report_done(report, index, job, found, start)
    return job


def _options(record: dict[str, Any], overwrite: bool) -> PredictOptions:
    """What the shards were told; JSON has made lists of tuples."""
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record["settings"].items()}
    options = PredictOptions(**settings)
    return replace(options, workers=None, scheduler=None, shard=None, overwrite=options.overwrite or overwrite)
