"""Train and predict for Appose: arrays in shared memory, progress, cancel; a model stays loaded between calls.

Appose (github.com/apposed) runs Python beside Fiji and other programs. Its worker executes scripts with a `task`::

    from cellscribble.bridge.appose_worker import predict
    task.outputs["labels"] = predict(task, image, "YX", model)

Nothing here writes to stdout, which is Appose's own line to the other program.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cellscribble.bundle import MODEL_FILE, Model
from cellscribble.core.errors import InputError, MissingExtraError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer.find_model import find_model, open_for
from cellscribble.infer.predict import predict as predict_image
from cellscribble.infer.runner import Runner
from cellscribble.io.axes import check_axes, plan_axes, to_canonical
from cellscribble.io.scribbles import save_scribbles
from cellscribble.io.tiff import save_image


class Task(Protocol):
    """What is used of Appose's task."""

    cancel_requested: bool

    def update(self, message: str | None = None, current: int | None = None, maximum: int | None = None) -> None: ...
    def cancel(self) -> None: ...


class Canceled(Exception):
    """The other program asked to stop; it has been told that this was done."""


def predict(
    task: Task,
    image: Any,
    axes: str,
    model: str,
    pixel_size_um: Sequence[float] | None = None,
    **options: Any,
) -> Any:
    """Labels (*spatial) of an image, as an Appose NDArray of uint16, or uint32 above 65,535 objects.

    Parameters
    ----------
    task : Appose's; hears "N of M blocks", and is asked after each block whether to go on
    image : Appose NDArray or numpy array
    axes : of the array, such as "YX", "ZYX", "CZYX", "YXS"
    model : as `cellscribble predict -m`
    pixel_size_um : one number for each spatial axis
    options : further ones of `cellscribble.infer.predict.predict`: as_classes, threshold, rescale, planes ...

    Raises
    ------
    Canceled
        If it was asked to stop.
    MissingExtraError
        If appose is not installed here.
    CellScribbleError
        As `cellscribble predict`.
    """
    volume = _volume(image, axes, "image", pixel_size_um)
    loaded, runner = _warm(*_stamp(find_model(model)))

    def progress(done: int, total: int) -> None:
        _go_on(task)
        task.update(f"{done} of {total} blocks", done, total)

    _go_on(task)
    found = predict_image(volume, loaded, runner=runner, progress=progress, **options)
    return _shared(np.asarray(found.labels))


def train(
    task: Task,
    images: Mapping[str, Any],
    scribbles: Mapping[str, Any],
    axes: str,
    out: str,
    minutes: float = 5.0,
    pixel_size_um: Sequence[float] | None = None,
    **settings: Any,
) -> str:
    """Train on images and their strokes; the path of the model.

    Parameters
    ----------
    task : Appose's; hears how far it is, and is asked after each step and each block whether to go on
    images : name -> Appose NDArray or numpy array
    scribbles : name -> the same of whole numbers (*spatial): 0 nothing drawn, 1 background, 2 and up classes
    axes : of the images' arrays
    out : folder of the run, new
    settings : further ones of the run, as in a file for `cellscribble train --config`

    Raises
    ------
    Canceled
        If it was asked to stop; no model is written.
    InputError
        If a name of strokes is that of no image.
    CellScribbleError
        As `cellscribble train`.
    """
    # Only here: predicting needs no torch.
    from cellscribble.config import load_config
    from cellscribble.export.int8 import export_both
    from cellscribble.train.inputs import open_training_set
    from cellscribble.train.run import train as train_run
    from cellscribble.train.start import check_run

    alien = sorted(set(scribbles) - set(images))
    if alien:
        raise InputError(f"strokes {alien[0]!r} belong to no image; images are called {', '.join(images)}")
    config = load_config(None, {"minutes": minutes, **settings})
    check_run(config, Path(out), False)
    with tempfile.TemporaryDirectory(prefix="cellscribble_") as folder:
        places = Path(folder) / "images", Path(folder) / "scribbles"
        for place in places:
            place.mkdir()
        for name, array in images.items():
            volume = _volume(array, axes, name, pixel_size_um)
            save_image(places[0] / f"{name}.tif", volume.data, volume.axes, volume.pixel_size_um)
        for name, array in scribbles.items():
            save_scribbles(places[1] / f"{name}.tif", _numpy(array).astype(np.int16) - 1)
        training_set = open_training_set(*places)
    reporter = _Reporter(task)
    result = train_run(training_set, config, Path(out), reporter)
    written = export_both(result.folder, result.folder / MODEL_FILE, overwrite=True, tell=reporter.part)
    return str(written.model.path.absolute())


class _Reporter:
    """Tells the other program how far a run is, once for each hundredth."""

    def __init__(self, task: Task) -> None:
        self._task, self._last = task, -1

    def say(self, text: str) -> None:
        self._task.update(text)

    def tick(self, tick: Any) -> None:
        _go_on(self._task)
        percent = int(100 * tick.done / tick.total)
        if percent != self._last:
            self._last = percent
            self._task.update(tick.stage, percent, 100)

    def part(self, what: str, done: float, total: float) -> None:
        _go_on(self._task)
        self._task.update(f"{what}: {100 * done / total:.0f} %")


def _go_on(task: Task) -> None:
    if task.cancel_requested:
        task.cancel()
        raise Canceled("stopped as asked")


def _stamp(path: Path) -> tuple[Path, int]:
    return path.absolute(), path.stat().st_mtime_ns


@lru_cache(maxsize=1)
def _warm(path: Path, modified_ns: int) -> tuple[Model, Runner]:
    """The model and its session, loaded anew only for another file, or the same one written again."""
    model = open_for("auto", path)
    return model, Runner(model)


def _volume(array: Any, axes: str, name: str, pixel_size_um: Sequence[float] | None) -> ImageVolume:
    data = _numpy(array)
    plan = plan_axes(check_axes(axes, data.shape), data.shape, None)
    size = None if pixel_size_um is None else tuple(float(um) for um in pixel_size_um)
    # A copy: the other program may free its memory while a lazy reader still looks at it.
    return ImageVolume(
        to_canonical(data, plan).copy(), plan.axes, size, name, plan.is_rgb, origin=f"axes {axes} as given"
    )


def _numpy(array: Any) -> Any:
    return array.ndarray() if hasattr(array, "ndarray") else np.asarray(array)


def _shared(labels: Any) -> Any:
    try:
        from appose import NDArray
    except ImportError as error:
        raise MissingExtraError(f"appose is not installed here ({error}); pip install 'cellscribble[fiji]'") from None
    shared = NDArray(str(labels.dtype), list(labels.shape))
    shared.ndarray()[...] = labels
    return shared
