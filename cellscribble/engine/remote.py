"""The steps of a run in other processes: a small description goes there, and the steps are made from it once."""

from __future__ import annotations

import functools
import socket
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from cellscribble._version import __version__
from cellscribble.bundle import open_model
from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import CellScribbleError, InputError, ModelError, OutputError
from cellscribble.engine.job import JOB
from cellscribble.engine.memory import keep_freed_memory
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.stages import Steps
from cellscribble.engine.steps import at_most
from cellscribble.engine.task import task_of
from cellscribble.infer.fit import check_fit
from cellscribble.infer.runner import Runner
from cellscribble.io.images import open_image
from cellscribble.io.remote import is_url

KEPT_RUNS = 2
"""Of so many runs a worker keeps the steps, with a network each."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a worker must know of a run: plain and small, since it travels with each block.

    folder, image, model : paths, the same for all; the image may be a URL
    state : stands for what the image was when the run began
    sha256 : of the model file
    version : of CellScribble
    device : "cpu" or "cuda"
    n_networks : blocks in the network at once, with one step more besides; None for what the worker has threads for
    n_threads : of the network, for each of them
    block_px, low, high : as `facts_of`
    store_version, source : as in `Task`
    """

    folder: str
    image: str
    state: str
    model: str
    sha256: str
    version: str
    device: str
    n_networks: int | None
    n_threads: int
    options: PredictOptions
    block_px: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    store_version: str
    source: str


def work_on(recipe: Recipe, stage: str, k: int) -> str:
    """Do the step of a stage for block `k`, in a process of dask.distributed; others wait where there are enough.

    Raises
    ------
    CellScribbleError
        If this computer does not see what is needed, or sees another; as the step otherwise.
    """
    with _building:
        steps, room = _steps(recipe)
    with room:
        return steps.of(stage)(k)


_building = threading.Lock()


@functools.lru_cache(maxsize=KEPT_RUNS)
def _steps(recipe: Recipe) -> tuple[Steps, threading.Semaphore]:
    keep_freed_memory()
    try:
        return _open(recipe)
    except CellScribbleError as error:
        raise type(error)(f"the worker on {socket.gethostname()} cannot begin: {error}") from error


def _open(recipe: Recipe) -> tuple[Steps, threading.Semaphore]:
    if recipe.version != __version__:
        raise InputError(f"it has CellScribble {__version__}, the run {recipe.version}; install the same for both")
    folder = Path(recipe.folder)
    if not (folder / JOB).is_file():
        raise OutputError(f"it does not see {folder}; all computers must see the results under the same path")
    if not Path(recipe.model).is_file():
        raise ModelError(f"it does not see {recipe.model}; all computers must see the model under the same path")
    model = open_model(recipe.model)
    if model.sha256 != recipe.sha256:
        raise ModelError(f"{model.path} is another model than that of the run; put the same file there")
    if not is_url(recipe.image) and not Path(recipe.image).exists():
        raise InputError(f"it does not see {recipe.image}; all computers must see the image under the same path")
    options = recipe.options
    image = open_image(
        recipe.image, axes=options.axes, timepoint=options.timepoint, level=options.level or 0, lazy=options.lazy
    )
    # Whether pixel sizes fit was seen to at the start.
    fit = check_fit(
        image, model.metadata, rescale=options.rescale, ignore_pixel_size=not options.rescale, planes=options.planes
    )
    model = replace(model, metadata=fit.metadata)
    facts = {"block_px": recipe.block_px, "low": recipe.low, "high": recipe.high}
    n_networks, n_threads = recipe.n_networks, recipe.n_threads
    if n_networks is None:
        n_networks = _threads()
        n_blocks = len(BlockGrid(fit.shape or image.spatial_shape, recipe.block_px))
        n_threads = max(1, n_networks // n_blocks)
    network = Runner(model, recipe.device, threads=n_threads)
    task = task_of(recipe.image, image, model, options, recipe.store_version, recipe.source, fit.shape)
    steps = Steps(task, facts, folder, model.metadata, at_most(n_networks, network))
    return steps, threading.Semaphore(n_networks + 1)


def _threads() -> int:
    from distributed import get_worker

    return int(get_worker().state.nthreads)
