"""One image of any size, from the file to its labels: resumed, finished, alone or with others.

All that is unfinished lies in one folder beside the result (`unfinished`). The steps of `stages` are
run block by block (`schedule`), each noted in the journal there. Memory holds a few blocks, whatever
the size of the image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellscribble.core.blocks import Slices
from cellscribble.core.errors import FileFormatError
from cellscribble.engine.journal import EMPTY, FAILED, done_of
from cellscribble.engine.progress import BlockProgress
from cellscribble.engine.schedule import Stage, run_stages
from cellscribble.engine.shards import Shard, check_all_seen, own_tasks
from cellscribble.engine.stages import Steps
from cellscribble.engine.unfinished import Unfinished


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works on the blocks.

    executor, at_once : as of `run_stages`
    work : for the name of a stage, what is done with a block of it
    """

    executor: Executor
    at_once: int | Callable[[], int]
    work: Callable[[str], Callable[[int], str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it.

    n_objects, n_wide : None where the labels are classes; `n_wide` are so large that their shape was not seen
    n_by_class : objects of each class; None where there is one only
    n_blocks, n_empty : blocks for the network, and how many were empty
    doubt : of what this process saw of it (`cellscribble.segment.doubt`); None where that is too little
    damaged : what could not be read, and what lies so near that it may be wrong: (box as [start, stop] for each axis,
        why)
    """

    n_objects: int | None
    n_wide: int | None
    n_by_class: tuple[int, ...] | None
    n_blocks: int
    n_empty: int
    damaged: tuple[tuple[list[list[int]], str], ...]
    doubt: float | None


class LargeRun:
    """A task and those who work on it; what is done already is not done again.

    Parameters
    ----------
    steps : of the task, over the folder of `unfinished`
    progress : told about each block
    """

    def __init__(self, steps: Steps, unfinished: Unfinished, progress: BlockProgress, crew: Crew) -> None:
        self._steps, self._unfinished, self._progress, self._crew = steps, unfinished, progress, crew
        self._n_empty = 0
        self._damaged: dict[int, tuple[Slices, str]] = {}
        steps.make_folders()

    def segment(self) -> Outcome:
        """Fill "labels.zarr" and what else is wanted in the folder."""
        steps = self._steps
        root, n_by_class = None, None
        if steps.task.settings is None and steps.task.shape is None:
            self._run([*steps.before_numbers, *steps.numbering])
        else:
            self._run(steps.before_numbers)
            for stage in steps.numbering:
                self._run([stage])
        if steps.task.settings is not None:
            root = steps.tables.root
            n_by_class = self._write_classes() if steps.n_classes > 1 else None
        for stage in steps.pyramids:
            self._run([stage])
        damaged = [(self._on_image(box), why) for box, why in (self._damaged[k] for k in sorted(self._damaged))]
        return Outcome(
            n_objects=None if root is None else steps.n_objects,
            n_wide=None if root is None else root.n_wide,
            n_by_class=n_by_class,
            n_blocks=len(steps.blocks),
            n_empty=self._n_empty,
            damaged=tuple(damaged),
            doubt=steps.doubt.value,
        )

    def segment_part(self, shard: Shard) -> None:
        """Do the part of one shard: see its blocks, cut and join those that need no other shard's."""
        self._run(self._steps.before_numbers, shard)

    def check_all_seen(self) -> None:
        """Raise InputError, which names the shards to run again, if a block was not seen yet."""
        check_all_seen(self._unfinished.folder, len(self._steps.blocks))

    def _on_image(self, box: Slices) -> list[list[int]]:
        """Where in the image itself a block lies that the network sees."""
        shapes = zip(box, self._steps.blocks.shape, self._steps.task.image.spatial_shape, strict=True)
        return [[s.start * m // n, -(-s.stop * m // n)] for s, n, m in shapes]

    def _write_classes(self) -> tuple[int, ...]:
        """Write the class of each object into the label store; return how many there are of each."""
        classes = np.concatenate([np.zeros(0, np.uint8), *self._steps.tables.classes()])
        classes = np.delete(classes, self._steps.lost - 1)
        self._steps.labels.create_array("object_classes", data=classes, overwrite=True)
        return tuple(np.bincount(classes, minlength=self._steps.n_classes + 1)[1:].tolist())

    def _run(self, names: Sequence[str], shard: Shard | None = None) -> None:
        """Do what is left of some stages, or a shard's part of them."""
        stages = [self._stage(name, shard) for name in names]
        known = done_of(self._unfinished.folder, {stage.name: len(stage.grid) for stage in stages})
        own = {stage.name: slice(None) if stage.only is None else stage.only for stage in stages}
        if "see" in known.done:
            self._n_empty = int(known.empty["see"][own["see"]].sum())
        self._damaged |= {k: (self._steps.blocks.box(k), message) for (_, k), message in known.failed.items()}
        self._damaged |= {k: _told(facts) for (_, k), facts in known.facts.items()}
        self._progress.expect(
            {name: done[own[name]] for name, done in known.done.items()}, self._n_empty, len(self._damaged)
        )
        run_stages(
            stages,
            self._crew.executor,
            at_once=self._crew.at_once,
            done=known.done,
            finished=self._finished,
            failed=self._failed,
        )

    def _stage(self, name: str, shard: Shard | None) -> Stage:
        steps = self._steps
        grid = steps.of(name).grid
        only = None if shard is None else own_tasks(grid, steps.blocks, shard)
        return Stage(name, grid, steps.halo_px(name), self._crew.work(name), only)

    def _finished(self, stage: str, k: int, word: str) -> None:
        word, _, text = word.partition(" ")
        facts = json.loads(text) if text else {}
        self._unfinished.journal.note(stage, k, word, **facts)
        if facts:
            self._damaged[k] = _told(facts)
        if stage == "see":
            self._n_empty += word == EMPTY
        self._progress.finished(stage, self._n_empty, len(self._damaged))

    def _failed(self, stage: str, k: int, error: BaseException) -> bool:
        if not (stage == "see" and self._steps.task.skip_damaged and isinstance(error, FileFormatError)):
            return False
        self._unfinished.journal.note(stage, k, FAILED, message=str(error))
        self._damaged[k] = (self._steps.blocks.box(k), str(error))
        self._progress.finished(stage, self._n_empty, len(self._damaged))
        return True


def _told(facts: Mapping[str, Any]) -> tuple[Slices, str]:
    """Box and message of a block of which a part could not be read."""
    return tuple(slice(start, stop) for start, stop in facts["box"]), str(facts["message"])
