"""The plan of an image that is segmented in memory: its block is chosen, the rest is reckoned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.costs import (
    MOST_CUT_BYTES,
    NETWORK_MARGIN,
    OTHER_BYTES,
    USUAL_CUT_BYTES,
    Costs,
    CutBytes,
    Work,
    expected_seconds,
    network_tile,
    network_window,
)
from cellscribble.engine.memory import format_bytes
from cellscribble.engine.plan import Plan, block_sizes, least_of
from cellscribble.infer.blockwise import default_block_px

FOREGROUND_BYTES = 12
"""Of deciding what is foreground, a pixel, while probability is held."""

WRITE_BYTES = 8
"""Of labels and their packing, a pixel."""


def plan_whole(
    image: ImageVolume,
    seen: Work,
    n_classes: int,
    costs: Costs,
    limit: int | None,
    n_cores: int,
    block_px: Sequence[int] | None,
) -> Plan:
    """The plan of an image in memory.

    Parameters
    ----------
    seen : the image as the network sees it; of another shape than `image` where it is resampled
    n_classes : with the background

    Raises
    ------
    InputError
        If it stays below no limit that is given, or `block_px` is impossible.
    """
    if limit is None and block_px is None:
        block_px = default_block_px(image.ndim, seen.by_planes)
    plans = []
    for block in block_sizes(seen, block_px):
        usual, most = (_bytes(image, seen, n_classes, costs, block, cut) for cut in (USUAL_CUT_BYTES, MOST_CUT_BYTES))
        plans.append(Plan(block, 1, n_cores, 1, 0, usual, most, expected_seconds(seen, costs, block, 1, n_cores)))
    fitting = [plan for plan in plans if limit is None or plan.most_bytes <= limit]
    if fitting:
        return min(fitting, key=lambda plan: plan.seconds)
    raise InputError(
        f"--max-memory {format_bytes(limit or 0)} is too little for image {image.name!r}, which is segmented in "
        f"memory as a whole: that takes up to {format_bytes(least_of(plans))}. Save it as OME-Zarr, which is "
        "segmented block by block" + ("" if seen.shape == image.spatial_shape else ", at the model's pixel size")
    )


def _bytes(
    image: ImageVolume, seen: Work, n_classes: int, costs: Costs, block_px: Sequence[int], cut_bytes: CutBytes
) -> int:
    network = math.prod(network_tile(seen, block_px)) * costs.network_bytes * NETWORK_MARGIN
    network += math.prod(network_window(seen, block_px)) * seen.read_bytes
    cut = 0 if seen.cut_halo_px is None else max(cut_bytes)
    probability = 4 * n_classes * (2 if seen.graph_cut else 1)
    whole = seen.n_pixels * (probability + max(FOREGROUND_BYTES, cut) + WRITE_BYTES)
    if seen.shape != image.spatial_shape:
        # The image as float32 before and after, and what was found once more on its own grid.
        whole += (seen.n_pixels + image.n_pixels) * 8 * image.n_channels + image.n_pixels * (probability + WRITE_BYTES)
    running = max(seen.fit_bytes, network + whole)
    return max(costs.reached_bytes, math.ceil(costs.held_bytes + OTHER_BYTES + running))
