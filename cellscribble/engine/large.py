"""One image of any size, from the file to its labels: planned, resumed, finished.

All that is unfinished lies in one folder beside the result (`unfinished`). The steps of `steps` are
run block by block (`schedule`), each noted in the journal there. Memory holds a few blocks, whatever
the size of the image.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import ModelMetadata
from cellscribble.core.blocks import BlockGrid, levels, padded_shape
from cellscribble.core.errors import FileFormatError
from cellscribble.core.intensity import Intensity, fit_intensity
from cellscribble.core.labels import label_dtype
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.block_files import BlockFiles
from cellscribble.engine.empty import EmptyTest
from cellscribble.engine.journal import EMPTY, FAILED, done_of
from cellscribble.engine.progress import BlockProgress
from cellscribble.engine.schedule import Stage, run_stages
from cellscribble.engine.steps import (
    Cut,
    Decide,
    DecideObjects,
    Join,
    Number,
    See,
    Shrink,
    Tables,
    at_most,
    decide_classes,
)
from cellscribble.engine.stores import SHRINK_CHUNKS, n_levels, open_store, owned_levels
from cellscribble.engine.unfinished import Unfinished
from cellscribble.infer.blockwise import READ_ERRORS, block_size, reading
from cellscribble.infer.runner import Runner
from cellscribble.segment.parameters import InstanceParameters
from cellscribble.segment.stitch import Node, join_factor


@dataclass(frozen=True, slots=True)
class Task:
    """One image to segment.

    settings : of the objects; None where the labels are classes
    probability : whether it is kept
    skip_empty : whether empty blocks are spared the network
    skip_damaged : whether blocks that cannot be read are left out instead of ending the run
    version : of OME-Zarr that is written
    """

    image: ImageVolume
    settings: InstanceParameters | None
    probability: bool = False
    skip_empty: bool = True
    skip_damaged: bool = False
    version: str = "0.4"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it.

    n_objects, n_wide : None where the labels are classes; `n_wide` are so large that their shape was not seen
    n_by_class : objects of each class; None where there is one only
    n_blocks, n_empty : blocks for the network, and how many were empty
    damaged : what could not be read: (box as [start, stop] for each axis, why)
    """

    n_objects: int | None
    n_wide: int | None
    n_by_class: tuple[int, ...] | None
    n_blocks: int
    n_empty: int
    damaged: tuple[tuple[list[list[int]], str], ...]


def facts_of(task: Task, meta: ModelMetadata, block_px: Sequence[int] | None) -> dict[str, Any]:
    """What is decided once for an image and kept when the run is resumed: block size and intensity.

    Raises
    ------
    InputError, FileFormatError
        As `predict_probability`.
    """
    block = block_size(task.image.spatial_shape, block_px, meta.stride_multiple)
    with reading(task.image):
        intensity = fit_intensity(task.image, meta.intensity, READ_ERRORS if task.skip_damaged else ())
    return {
        "block_px": list(padded_shape(block, meta.stride_multiple)),
        "low": list(intensity.low),
        "high": list(intensity.high),
    }


class LargeRun:
    """The steps of one task over the folder of what is unfinished.

    Parameters
    ----------
    unfinished : made with `facts_of`
    runner : the network
    progress : told about each block
    n_networks : blocks in the network at once; one more is read, cut and written meanwhile
    """

    def __init__(
        self, task: Task, unfinished: Unfinished, runner: Runner, progress: BlockProgress, n_networks: int
    ) -> None:
        self._task, self._unfinished, self._runner = task, unfinished, runner
        self._progress, self._n_threads = progress, n_networks + 1
        self._network = at_most(n_networks, runner)
        facts = unfinished.facts
        self._intensity = Intensity(tuple(facts["low"]), tuple(facts["high"]))
        self._blocks = BlockGrid(task.image.spatial_shape, tuple(facts["block_px"]))
        self._n_classes = len(runner.metadata.classes) - 1
        self._n_empty = 0
        self._damaged: dict[int, str] = {}

    def segment(self) -> Outcome:
        """Fill "labels.zarr" and "probability.zarr" in the folder; what is done already is not done again."""
        seen = BlockFiles(self._unfinished.path("seen"), self._blocks, np.uint8)
        probability = self._probability()
        see = self._stage("see", self._see(seen, None if probability is None else probability["0"]))
        root, n_by_class = None, None
        if self._task.settings is None:
            labels, as_they_are = self._labels(self._n_classes), np.arange(self._n_classes + 1)
            owned = owned_levels(labels, self._blocks)
            self._run([see, self._stage("number", Number(seen, owned, lambda k: as_they_are, self._blocks))])
        else:
            labels, root, n_by_class = self._objects(seen, see, self._task.settings)
        self._shrink("labels", labels, len(owned_levels(labels, self._blocks)))
        if probability is not None:
            self._shrink("probability", probability, 1)
        damaged = [([[s.start, s.stop] for s in self._blocks.box(k)], why) for k, why in sorted(self._damaged.items())]
        return Outcome(
            n_objects=None if root is None else root.n_objects,
            n_wide=None if root is None else root.n_wide,
            n_by_class=n_by_class,
            n_blocks=len(self._blocks),
            n_empty=self._n_empty,
            damaged=tuple(damaged),
        )

    def _objects(
        self, seen: BlockFiles, see: Stage, settings: InstanceParameters
    ) -> tuple[Any, Node, tuple[int, ...] | None]:
        """Labels of objects, the node of the whole image, and the number of objects of each class."""
        blocks, several = self._blocks, self._n_classes > 1
        numbers = BlockFiles(self._unfinished.path("numbers"), blocks, np.uint32)
        nodes = self._unfinished.path("nodes")
        cut = Cut(seen, numbers, nodes, blocks, settings, self._n_classes if several else 0)
        grids = levels(blocks, join_factor(len(blocks.shape)))
        joins = [
            self._stage(f"join{level}", Join(nodes, level, grid, finer, settings))
            for level, (finer, grid) in enumerate(itertools.pairwise(grids), start=1)
        ]
        self._run([see, self._stage("cut", cut, cut.halo_px), *joins])
        tables = Tables(nodes, grids)
        labels = self._labels(tables.root.n_objects)
        self._run([self._stage("number", Number(numbers, owned_levels(labels, blocks), tables, blocks))])
        return labels, tables.root, self._classes(tables, labels) if several else None

    def _see(self, seen: BlockFiles, probability: Any) -> See:
        task, meta = self._task, self._runner.metadata
        decide: Decide = decide_classes if task.settings is None else DecideObjects(task.settings)
        empty = None
        if task.skip_empty:
            empty = EmptyTest(
                self._network, self._intensity, meta.halo_px, meta.stride_multiple, lambda p: not decide(p).any()
            )
        return See(task.image, meta, self._network, self._intensity, self._blocks, decide, seen, probability, empty)

    def _probability(self) -> Any:
        return self._store("probability", np.uint8, self._runner.metadata.classes) if self._task.probability else None

    def _labels(self, highest: int) -> Any:
        return self._store("labels", label_dtype(highest))

    def _store(self, name: str, dtype: npt.DTypeLike, classes: Sequence[str] = ()) -> Any:
        path, block_px = self._unfinished.path(f"{name}.zarr"), self._blocks.block_px
        return open_store(path, self._task.image, block_px, dtype, self._task.version, classes)

    def _classes(self, tables: Tables, labels: Any) -> tuple[int, ...]:
        """Write the class of each object into the label store; return how many there are of each."""
        classes = np.concatenate([np.zeros(0, np.uint8), *tables.classes()])
        labels.create_array("object_classes", data=classes, overwrite=True)
        return tuple(np.bincount(classes, minlength=self._n_classes + 1)[1:].tolist())

    def _shrink(self, name: str, group: Any, first: int) -> None:
        """Fill the levels of a pyramid from the `first` on."""
        n_space = self._task.image.ndim
        for level in range(first, n_levels(group)):
            array = group[str(level)]
            block_px = [c * n for c, n in zip(array.chunks[-n_space:], SHRINK_CHUNKS[-n_space:], strict=True)]
            grid = BlockGrid(tuple(array.shape[-n_space:]), tuple(block_px))
            self._run([Stage(f"{name}{level}", grid, (0,) * n_space, Shrink(group, level, grid))])

    def _stage(self, name: str, step: Any, halo_px: tuple[int, ...] | None = None) -> Stage:
        return Stage(name, step.grid, halo_px or (0,) * self._task.image.ndim, step)

    def _run(self, stages: list[Stage]) -> None:
        """Do what is left of some stages."""
        known = done_of(self._unfinished.folder, {stage.name: len(stage.grid) for stage in stages})
        if "see" in known.done:
            self._n_empty = int(known.empty["see"].sum())
        self._damaged |= {k: message for (_, k), message in known.failed.items()}
        self._progress.expect(known.done, self._n_empty)
        with ThreadPoolExecutor(self._n_threads, "block") as executor:
            run_stages(
                stages,
                executor,
                at_once=self._n_threads,
                done=known.done,
                finished=self._finished,
                failed=self._failed,
            )

    def _finished(self, stage: str, k: int, word: str) -> None:
        self._unfinished.journal.note(stage, k, word)
        if stage == "see":
            self._n_empty += word == EMPTY
        self._progress.finished(stage, self._n_empty)

    def _failed(self, stage: str, k: int, error: BaseException) -> bool:
        if not (stage == "see" and self._task.skip_damaged and isinstance(error, FileFormatError)):
            return False
        self._unfinished.journal.note(stage, k, FAILED, message=str(error))
        self._damaged[k] = str(error)
        return True
