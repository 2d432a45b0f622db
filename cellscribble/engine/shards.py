"""Several processes that share one image without knowing of each other: each has a run of blocks of its own.

A shard has blocks that follow each other, so that what lies between two shards is little. A task that
stands for several blocks belongs to the shard of the last of them: shards that run one after the other
then find what they need.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import InputError
from cellscribble.engine.journal import done_of
from cellscribble.engine.ready import Bools

Shard = tuple[int, int]
"""Which of how many, from 1."""

_SHOWN_RANGES = 20


def parse_shard(text: str) -> Shard:
    """ "3/8" -> (3, 8). Raises InputError if it is none."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= shard[0] <= shard[1]:
        raise InputError(f"{text!r} is no shard; give which of how many, from 1, such as 3/8")
    return shard


def part(n: int, shard: Shard) -> slice:
    """The shard's part of `n` things in a row."""
    index, count = shard
    return slice(n * (index - 1) // count, n * index // count)


def own_tasks(grid: BlockGrid, blocks: BlockGrid, shard: Shard) -> Bools:
    """(len(grid),) bool, the tasks of a shard; `blocks` divide those of `grid`."""
    last = np.zeros((1,) * len(grid.shape), np.int64)
    for axis, (n, size, block) in enumerate(zip(grid.shape, grid.block_px, blocks.block_px, strict=True)):
        ends = np.minimum(np.arange(1, grid.counts[axis] + 1) * size, n)
        places = (ends - 1) // block
        last = last * blocks.counts[axis] + places.reshape(-1, *(1,) * (len(grid.shape) - 1 - axis))
    own = part(len(blocks), shard)
    return np.asarray((last >= own.start) & (last < own.stop)).reshape(-1)


def check_all_seen(folder: Path, n_blocks: int) -> None:
    """Raise InputError, which names the shards to run again, if a block of a run was not seen yet."""
    missing = ~done_of(folder, {"see": n_blocks}).done["see"]
    if not missing.any():
        return
    # Of arrays of several sizes the last counts; one of 1 is who wants to finish.
    journals = sorted((path.stat().st_mtime, path.stem) for path in folder.glob("journal-*-of-*.txt"))
    counts = [int(name.rpartition("-")[2]) for _, name in journals]
    count = next((n for n in reversed(counts) if n > 1), 1)
    if count == 1:
        remedy = "run the same 'cellscribble predict' again: it goes on and finishes"
    else:
        again = [i for i in range(1, count + 1) if missing[part(n_blocks, (i, count))].any()]
        remedy = f"run the shards {_ranges(again)} of {count} again (--shard {again[0]}/{count})"
    raise InputError(f"{folder}: {int(missing.sum())} of {n_blocks} blocks were not seen yet; {remedy}")


def _ranges(numbers: list[int]) -> str:
    """As --array of SLURM takes them: [1, 2, 3, 7] -> "1-3,7"."""
    breaks = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1]
    runs = [numbers[a:b] for a, b in zip([0, *breaks], [*breaks, len(numbers)], strict=True)]
    shown = ",".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:_SHOWN_RANGES])
    return shown + (" and more" if len(runs) > _SHOWN_RANGES else "")
