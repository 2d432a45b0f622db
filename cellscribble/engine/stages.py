"""The steps of a task by the names of their stages: alike in every process that works on it."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import ModelMetadata
from cellscribble.core.blocks import BlockGrid, levels, padded_shape
from cellscribble.core.intensity import Intensity
from cellscribble.core.labels import label_dtype
from cellscribble.engine.block_files import BlockFiles, make_folders
from cellscribble.engine.empty import EmptyTest, Network
from cellscribble.engine.glance import Glance, glance_at
from cellscribble.engine.regrid import Exact, Lay, Lost, Numbered, Spread, may_lose
from cellscribble.engine.steps import (
    Cut,
    Decide,
    DecideObjects,
    Join,
    Number,
    See,
    Shrink,
    Tables,
    decide_classes,
    node_folder,
)
from cellscribble.engine.stores import SHRINK_CHUNKS, n_levels, open_store, owned_levels
from cellscribble.engine.task import Task
from cellscribble.infer.cut import block_cut
from cellscribble.segment.doubt import Doubt
from cellscribble.segment.stitch import join_factor


class Step(Protocol):
    """What is done with block `k` of a grid; returns a word for the journal."""

    @property
    def grid(self) -> BlockGrid:
        """The blocks."""

    def __call__(self, k: int) -> str:
        """Do it."""


class Steps:
    """The steps of one task; each is made when it is first asked for. Thread-safe.

    ::

        before_numbers   see, cut, join1, join2 ...     where labels are classes: see
        numbering        number; where the image is resampled: lost, where objects may be, number, spread
        pyramids         labels2 ..., probability1 ..., uncertainty1 ...  the levels that are not written with level 0

    Parameters
    ----------
    task : what is to be done
    facts : made with `facts_of`
    folder : of what is unfinished
    meta : of the model
    network : asked by "see" only

    Attributes
    ----------
    doubt : of the blocks that "see" has seen here
    """

    def __init__(
        self, task: Task, facts: Mapping[str, Any], folder: Path, meta: ModelMetadata, network: Network
    ) -> None:
        self.task, self._folder, self._meta, self._network = task, folder, meta, network
        self._intensity = Intensity(tuple(facts["low"]), tuple(facts["high"]))
        self._image = task.seen
        self.blocks = BlockGrid(self._image.spatial_shape, tuple(facts["block_px"]))
        self._own_blocks = BlockGrid(task.image.spatial_shape, self.blocks.block_px)
        self.n_classes = len(meta.classes) - 1
        self._grids = levels(self.blocks, join_factor(len(self.blocks.shape)))
        self._seen = BlockFiles(folder / "seen", self.blocks, np.uint8)
        self._numbers = BlockFiles(folder / "numbers", self.blocks, np.uint32)
        self._nodes = folder / "nodes"
        self._exact = (
            Exact(folder / "exact", self.blocks, len(meta.classes))
            if task.shape and (task.probability or task.uncertainty)
            else None
        )
        self.doubt = Doubt()
        self._made: dict[str, Step] = {}
        self._lock = threading.RLock()

    @property
    def before_numbers(self) -> list[str]:
        """Names of the stages that need not know the whole image, in their order."""
        if self.task.settings is None:
            return ["see"]
        return ["see", "cut", *(f"join{level}" for level in range(1, len(self._grids)))]

    @property
    def numbering(self) -> list[str]:
        """Names of the stages that write what is wanted at full size, behind those before, to be run one by one."""
        if self.task.shape is None:
            return ["number"]
        lost = self.task.settings is not None and may_lose(self.blocks.shape, self._own_blocks.shape)
        return [*(["lost"] if lost else []), "number", *(["spread"] if self._exact else [])]

    @property
    def pyramids(self) -> list[str]:
        """Names of the stages behind these, to be run one by one."""
        first = {"labels": len(owned_levels(self.labels, self._own_blocks))}
        groups = {"labels": self.labels, **self.kept}
        return [
            f"{name}{level}" for name, group in groups.items() for level in range(first.get(name, 1), n_levels(group))
        ]

    def of(self, stage: str) -> Step:
        """The step of a stage."""
        with self._lock:
            if stage not in self._made:
                self._made[stage] = self._make(stage)
            return self._made[stage]

    def halo_px(self, stage: str) -> tuple[int, ...]:
        """What a block of this stage sees around it of the stage before."""
        step = self.of(stage)
        return step.halo_px if isinstance(step, Cut) else (0,) * len(self.blocks.shape)

    def make_folders(self) -> None:
        """Make the folders of all files between the steps, before any of them is looked for.

        A network disk may remember for a minute that a folder was not there, and a block whose file is not found
        counts as background.
        """
        exact = self._exact.files if self._exact else []
        for files in (self._seen, self._numbers, *exact):
            make_folders(files.folder, len(self.blocks))
        if "lost" in self.numbering:
            make_folders(self._lost_folder, len(self._own_blocks))
        for level, grid in enumerate(self._grids):
            make_folders(node_folder(self._nodes, level), len(grid))

    @cached_property
    def tables(self) -> Tables:
        """The numbers of all objects, once all is joined."""
        return Tables(self._nodes, self._grids)

    @cached_property
    def lost(self) -> npt.NDArray[np.int64]:
        """Numbers of the objects in no pixel of the image itself, rising, once "lost" is done."""
        lost = self.of("lost") if "lost" in self.numbering else None
        return lost.all(self.tables.root.n_objects) if isinstance(lost, Lost) else np.zeros(0, np.int64)

    @property
    def n_objects(self) -> int:
        """How many are labelled."""
        return self.tables.root.n_objects - len(self.lost)

    @cached_property
    def labels(self) -> Any:
        """The group of the label store; objects must be joined."""
        highest = self.n_classes if self.task.settings is None else self.n_objects
        return self._store("labels", label_dtype(highest))

    @cached_property
    def kept(self) -> dict[str, Any]:
        """The groups of the stores that "see" fills: "probability" and "uncertainty", where they are wanted."""
        wanted = {"probability": self._meta.classes} if self.task.probability else {}
        wanted |= {"uncertainty": ("uncertainty",)} if self.task.uncertainty else {}
        return {name: self._store(name, np.uint8, channels) for name, channels in wanted.items()}

    def _make(self, stage: str) -> Step:
        match = re.fullmatch(r"([a-z]+)(\d*)", stage)
        assert match is not None, f"{stage!r} is no name of a stage"
        name, level = match[1], int(match[2] or 0)
        if name == "see":
            return self._see()
        if name == "number":
            return self._number() if self.task.shape is None else self._lay()
        if name == "lost":
            return Lost(self._numbered(), self._lost_folder, self._own_blocks)
        if name == "spread":
            assert self._exact is not None
            kept = {of: group["0"] for of, group in self.kept.items()}
            return Spread(self._exact, kept.get("probability"), kept.get("uncertainty"), self._own_blocks)
        if name == "labels" or name in self.kept:
            return self._shrink(self.labels if name == "labels" else self.kept[name], level)
        settings = self.task.settings
        assert settings is not None, f"classes have no stage {stage!r}"
        if name == "cut":
            several = self.n_classes if self.n_classes > 1 else 0
            return Cut(self._seen, self._numbers, self._nodes, self.blocks, settings, several)
        assert name == "join", f"{stage!r} is no name of a stage"
        return Join(self._nodes, level, self._grids[level], self._grids[level - 1], settings)

    def _glance(self, k: int) -> npt.NDArray[np.float32] | None:
        """What a coarser level shows of a block."""
        with self._lock:
            glance = self._coarser
        return None if glance is None else glance(k)

    @cached_property
    def _coarser(self) -> Glance | None:
        """Made when the first block is looked at: who only finishes a run, or hands it out, opens no second level."""
        around_px = padded_shape(self._meta.halo_px, self._meta.stride_multiple)
        return glance_at(self.task.image, self.task.open_level, self.blocks, around_px, self._intensity)

    def _see(self) -> See:
        task, meta = self.task, self._meta
        decide: Decide = decide_classes if task.settings is None else DecideObjects(task.settings)
        empty = None
        if task.skip_empty:
            empty = EmptyTest(
                self._network,
                self._intensity,
                meta.halo_px,
                meta.stride_multiple,
                lambda p: not decide(p).any(),
                self._glance,
            )
        kept = {} if self._exact else {name: group["0"] for name, group in self.kept.items()}
        return See(
            self._image,
            meta,
            self._network,
            self._intensity,
            self.blocks,
            decide,
            self._seen,
            kept.get("probability"),
            empty,
            kept.get("uncertainty"),
            block_cut(meta),
            self._exact.write if self._exact else None,
            task.skip_damaged,
            self.doubt,
        )

    @property
    def _lost_folder(self) -> Path:
        return self._folder / "lost"

    def _numbered(self) -> Numbered:
        return Numbered(self._numbers, self.tables)

    def _lay(self) -> Lay:
        owned = owned_levels(self.labels, self._own_blocks)
        if self.task.settings is None:
            return Lay(self._seen, owned, np.zeros(0, np.int64), self.n_classes, self._own_blocks)
        return Lay(self._numbered(), owned, self.lost, self.tables.root.n_objects, self._own_blocks)

    def _number(self) -> Number:
        owned = owned_levels(self.labels, self.blocks)
        if self.task.settings is None:
            as_they_are = np.arange(self.n_classes + 1)
            return Number(self._seen, owned, lambda k: as_they_are, self.blocks)
        return Number(self._numbers, owned, self.tables, self.blocks)

    def _shrink(self, group: Any, level: int) -> Shrink:
        array, n_space = group[str(level)], len(self.blocks.shape)
        n_chunks = (1, 1, 1) if array.shards else SHRINK_CHUNKS
        sizes = (array.shards or array.chunks)[-n_space:]
        block_px = [size * n for size, n in zip(sizes, n_chunks[-n_space:], strict=True)]
        return Shrink(group, level, BlockGrid(tuple(array.shape[-n_space:]), tuple(block_px)))

    def _store(self, name: str, dtype: npt.DTypeLike, classes: Sequence[str] = ()) -> Any:
        path, task = self._folder / f"{name}.zarr", self.task
        return open_store(path, task.image, self.blocks.block_px, dtype, task.version, classes, task.source)
