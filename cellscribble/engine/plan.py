"""Size of a block, blocks at once and threads, so that a run is fast and stays within its memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cellscribble.core.blocks import block_size, padded_shape
from cellscribble.core.errors import InputError
from cellscribble.engine.costs import MOST_CUT_BYTES, USUAL_CUT_BYTES, Costs, Work, expected_seconds, peak_bytes
from cellscribble.engine.memory import format_bytes
from cellscribble.infer.blockwise import default_block_px

PLANE_PX = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 16)
DEPTH_PX = (128, 96, 64, 48, 32, 24, 16, 8, 4, 1)

FAR = 4
"""Times as many blocks are read ahead where each is waited for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is done.

    block_px : what a block writes, px; a multiple of the network's stride
    n_networks : blocks in the network at once, of each process that works
    threads : of the network, for each of them
    n_writers : threads that cut and write, and do what else there is to do for blocks
    n_ahead : blocks that are read before the network has room for them, by as many threads
    usual_bytes, most_bytes : memory of the whole program, with cells as they usually lie and at the most
    seconds : expected, if no block is empty
    """

    block_px: tuple[int, ...]
    n_networks: int
    threads: int
    n_writers: int
    n_ahead: int
    usual_bytes: int
    most_bytes: int
    seconds: float


def make_plan(
    work: Work,
    costs: Costs,
    limit: int | None,
    n_cores: int,
    block_px: Sequence[int] | None = None,
    n_most: int = 0,
    n_workers: int = 0,
) -> Plan:
    """The fastest of the plans that stay within `limit`.

    Parameters
    ----------
    limit : bytes for the whole program, at the most; None for no limit
    n_cores : what the network may use, of all processes together
    block_px : the size of a block if that is decided already
    n_most : blocks in the network at once, where that is not the number of cores (a GPU)
    n_workers : processes that do the work; 0 where this one does it

    Raises
    ------
    InputError
        If none stays within `limit`; the least that works is named. Or if `block_px` is impossible.
    """
    plans = list(_plans(work, costs, n_cores, block_px, n_most, n_workers))
    fitting = [plan for plan in plans if limit is None or plan.most_bytes <= limit]
    if fitting:
        return min(fitting, key=_by_speed)
    least = least_of(plans)
    blocks = f" and blocks of {_px(block_px)} px" if block_px is not None else ""
    blocks += f" and {n_workers} workers" if n_workers else ""
    raise InputError(
        f"--max-memory {format_bytes(limit or 0)} is too little for this image{blocks}: the program alone holds "
        f"{format_bytes(costs.held_bytes)}; give at least {format_bytes(least)}"
        + (", or a smaller --block" if block_px is not None else "")
    )


def usual_plan(
    work: Work,
    costs: Costs,
    available: int | None,
    n_cores: int,
    block_px: Sequence[int] | None,
    n_most: int = 0,
    n_workers: int = 0,
) -> Plan:
    """The fastest plan that usually takes about half of the memory that is available, or else the smallest.

    Raises
    ------
    InputError
        If `block_px` is impossible.
    """
    plans = list(_plans(work, costs, n_cores, block_px, n_most, n_workers))
    room = math.inf if available is None else available // 2
    fitting = [plan for plan in plans if plan.usual_bytes - costs.held_bytes <= room]
    if fitting:
        return min(fitting, key=_by_speed)
    return min(plans, key=lambda plan: (plan.usual_bytes, plan.seconds))


def least_of(plans: Sequence[Plan]) -> int:
    """The least limit under which one of the plans works, rounded up to two digits.

    A process holds some megabytes more or less each time it is started, so a little is added.
    """
    least = 1.03 * min(plan.most_bytes for plan in plans)
    unit = int(10 ** (len(str(int(least))) - 2))
    return math.ceil(least / unit) * unit


def _by_speed(plan: Plan) -> tuple[float, int, int]:
    """The fastest first; of equally fast ones the largest block, for fewer files, and one that reads ahead."""
    return plan.seconds, -math.prod(plan.block_px), -plan.n_ahead


def _plans(
    work: Work, costs: Costs, n_cores: int, block_px: Sequence[int] | None, n_most: int, n_workers: int
) -> Iterator[Plan]:
    n_processes = max(1, n_workers)
    share = max(1, n_cores // n_processes)
    for block in block_sizes(work, block_px):
        for n in range(1, (n_most or share) + 1):
            threads = 1 if n_most else max(1, share // n)
            # A device leaves the cores to those who read and write; a worker does one step more than it has networks.
            n_hands = share if n_most and not n_workers else n
            seconds = expected_seconds(work, costs, block, n * n_processes, threads)
            for n_ahead in [0] if n_workers else [n_hands * FAR] * work.far + [n_hands, 0]:
                hands = n_workers, n_hands + 1, n_ahead
                yield Plan(
                    block_px=block,
                    n_networks=n,
                    threads=threads,
                    n_writers=n_hands + 1,
                    n_ahead=n_ahead,
                    usual_bytes=peak_bytes(work, costs, block, n, USUAL_CUT_BYTES, *hands),
                    most_bytes=peak_bytes(work, costs, block, n, MOST_CUT_BYTES, *hands),
                    seconds=seconds,
                )


def block_sizes(work: Work, block_px: Sequence[int] | None) -> list[tuple[int, ...]]:
    """The sizes of blocks that come into question, on the network's stride, at most the image."""
    if block_px is not None:
        return [padded_shape(block_size(work.shape, block_px, work.multiple), work.multiple)]
    ndim = len(work.shape)
    default = default_block_px(ndim, work.by_planes)
    most = math.prod(default)
    sizes = [(z, p, p) for z in DEPTH_PX for p in PLANE_PX] if ndim == 3 else [(p, p) for p in PLANE_PX]
    blocks = dict.fromkeys(padded_shape(block_size(work.shape, size, work.multiple), work.multiple) for size in sizes)
    # In a block smaller than its halo nearly all work would be thrown away.
    chosen = [
        block
        for block in blocks
        if math.prod(block) <= max(most, math.prod(work.multiple))
        and all(
            b >= min(max(h, m), n) for b, h, m, n in zip(block, work.halo_px, work.multiple, work.shape, strict=True)
        )
    ]
    return chosen or block_sizes(work, default)


def _px(block_px: Sequence[int] | None) -> str:
    return " x ".join(str(b) for b in block_px or ())
