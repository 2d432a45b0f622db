"""What the network takes on this machine, measured, and the plan of each image that follows from it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from cellscribble.bundle import Model, ModelMetadata
from cellscribble.core.blocks import Slices, padded_shape
from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.costs import Costs, Work, network_keep, network_tile, speed_of, work_of
from cellscribble.engine.memory import available_bytes, format_bytes, resident
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.plan import Plan, make_plan, usual_plan
from cellscribble.engine.task import Task
from cellscribble.engine.whole import plan_whole
from cellscribble.infer.runner import CPU, Runner, usable_cores

GPU_BLOCKS = 2
"""One in the device, the next on its way."""

TRIAL_PX = 16
"""Of the first tile, besides the halo."""

TRIALS = 3
"""Plans that are tried on the network before the last one is taken as it is."""


class Planner:
    """Plans the runs of one model. Measures when it is made: before an image is opened, memory is in order.

    A 2D network that sees stacks plane by plane is measured and handed out as what it is, for planes.

    Parameters
    ----------
    runner : the model as it was loaded, for all cores
    options : `max_memory`, and who does the work
    n_cores : of each worker of a scheduler, if some are known

    Raises
    ------
    InputError
        If there is a limit and the system does not say what a process holds.
    """

    def __init__(self, model: Model, runner: Runner, options: PredictOptions, n_cores: int = 0) -> None:
        limit = options.max_memory
        if limit is not None and resident() is None:
            raise InputError(
                "--max-memory cannot be kept here: this system does not say how much memory a program holds; "
                "leave it out, and give a smaller --block where memory is short"
            )
        self.limit = limit
        # What other computers have is not known: there it is said for one worker, with what this process measures.
        self._elsewhere = options.scheduler is not None
        self._n_workers, self._n_cores = options.workers or 0, n_cores or usable_cores()
        self.runner, self._model, self._own = runner, model, runner
        self._threads, self._kept_bytes = usable_cores(), 0
        self._n_most = GPU_BLOCKS if runner.provider != CPU else 0
        self._costs = self._first_costs()

    def work(self, task: Task, meta: ModelMetadata) -> Work:
        """What there is to do for this network; parameters as `work_of`."""
        return work_of(task, meta, by_planes=self.runner.seen_as(meta).by_planes)

    def plan(self, image: ImageVolume, work: Work, block_px: Sequence[int] | None, *, exact: bool = False) -> Plan:
        """How the run of an image is done; with a limit, or if `exact`, tried on the network first.

        block_px : the size of a block if that is decided already

        Raises
        ------
        InputError
            If no plan stays below the limit, or `block_px` is impossible.
        """
        costs = self.costs(image)
        plan = self._choose(work, costs, block_px)
        for _ in range(TRIALS if exact or self.limit is not None else 0):
            tile = network_tile(work, plan.block_px)
            n_at_once = min(plan.n_networks, usable_cores())
            # The graph cut asks for the halo's probability too.
            keep = network_keep(work, plan.block_px) if self._model.metadata.graph_cut is None else None
            network_bytes, network_s = _try(self.network(plan), tile, n_at_once, plan.threads, keep)
            costs = replace(costs, network_bytes=max(costs.network_bytes, network_bytes), network_s=network_s)
            tried, plan = plan, self._choose(work, costs, block_px)
            if (plan.block_px, plan.n_networks) == (tried.block_px, tried.n_networks):
                break
        return plan

    def plan_whole(self, image: ImageVolume, seen: Work, block_px: Sequence[int] | None) -> Plan:
        """The plan of an image in memory, `seen` by the network in its own shape or another.

        Raises
        ------
        InputError
            If it does not stay below the limit, or is to be resampled and memory does not suffice.
        """
        costs, n_classes = self.costs(image), len(self._model.metadata.classes)
        plan = plan_whole(image, seen, n_classes, costs, self.limit, usable_cores(), block_px)
        # ONNX Runtime keeps what the session for all cores takes.
        taken = int(math.prod(network_tile(seen, plan.block_px)) * costs.network_bytes)
        self._kept_bytes = max(self._kept_bytes, taken)
        room = available_bytes()
        needed = plan.usual_bytes - costs.held_bytes
        if self.limit is None and seen.shape != image.spatial_shape and room is not None and needed > room:
            raise InputError(
                f"image {image.name!r} is too large to resample in memory (about {format_bytes(needed)}, "
                f"{format_bytes(room)} are free); save it as OME-Zarr, which is segmented block by block, or "
                "take the --level of its pyramid that is nearest"
            )
        return plan

    def network(self, plan: Plan) -> Runner:
        """The network with the threads of a plan."""
        if self._n_most or plan.threads == usable_cores():
            return self.runner
        return self._with_threads(plan.threads)

    def costs(self, image: ImageVolume) -> Costs:
        """What was measured, and the image if it lies in memory."""
        reached = resident()
        own = image.data.nbytes if isinstance(image.data, np.ndarray) else 0
        return replace(
            self._costs,
            held_bytes=self._costs.held_bytes + self._kept_bytes + own,
            reached_bytes=0 if reached is None or self.limit is None or self._elsewhere else reached.peak,
        )

    def _choose(self, work: Work, costs: Costs, block_px: Sequence[int] | None) -> Plan:
        who = (self._n_cores, block_px, self._n_most, self._n_workers)
        if self.limit is not None:
            return make_plan(work, costs, self.limit, *who)
        return usual_plan(work, costs, None if self._elsewhere else available_bytes(), *who)

    def _with_threads(self, threads: int) -> Runner:
        if threads != self._threads:
            # The one before it goes first, so that its memory is there for this one.
            self._own = self.runner
            self._own = Runner(self._model, "cpu", threads=threads)
            self._threads = threads
        return self._own

    def _first_costs(self) -> Costs:
        """From a tile as small as that of any plan, so that measuring breaks no limit."""
        meta = self._model.metadata
        runner = self.runner if self._n_most else self._with_threads(1)
        # What the first run of all loads and starts is no cost of a pixel.
        _try(runner, meta.stride_multiple, 1, 1)
        tile = padded_shape([2 * halo + TRIAL_PX for halo in meta.halo_px], meta.stride_multiple)
        network_bytes, network_s = _try(runner, tile, 1, 1)
        held = resident()
        return Costs(0 if held is None else held.now, 0, network_bytes, network_s)


def _try(
    runner: Runner, tile_px: Sequence[int], n: int, threads: int, keep: Slices | None = None
) -> tuple[float, float]:
    """Bytes and seconds, on one thread, of a pixel, from `n` tiles that are in the network at once.

    keep : the part of a tile that is asked about, None for all

    What is held afterwards counts as well as the peak: ONNX Runtime keeps what it took, and an
    earlier peak of the process may hide that of this one.
    """
    tile = np.zeros((len(runner.metadata.channels), *tile_px), np.float32)
    before, start = resident(), time.perf_counter()
    with ThreadPoolExecutor(n) as executor:
        n_values = sum(executor.map(lambda _: runner(tile, keep).size, range(n)))
    seconds, after = time.perf_counter() - start, resident()
    # No network takes less than its input and its output.
    least = 4.0 * (n_values / n + tile.size)
    taken = 0
    if before is not None and after is not None:
        taken = (after.peak if after.peak > before.peak else after.now) - before.now
    pixels = math.prod(tile_px)
    return max(least, taken / n) / pixels, seconds / pixels * speed_of(threads)
