"""Objects block by block, in memory: what an engine does on disk, said in a few lines."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import BlockGrid, Slices, levels
from cellscribble.core.labels import label_dtype
from cellscribble.segment.ascent import Ints
from cellscribble.segment.basins import Seen
from cellscribble.segment.instances import cut_block, rules
from cellscribble.segment.parameters import InstanceParameters, halo_px
from cellscribble.segment.settle import close_objects
from cellscribble.segment.stitch import Node, child_tables, join_factor, join_nodes, leaf, own_table


@dataclass(frozen=True, slots=True)
class Objects:
    """What is known of the objects 1..n_objects of an image.

    n_wide : how many are so wide that their shape was not seen
    classes : (n_objects,) uint8, the class that most of each object's pixels favour; (0,) where there is only one
    """

    n_objects: int
    n_wide: int
    classes: npt.NDArray[np.uint8]


def segment_blocks(
    read: Callable[[Slices], Seen],
    shape: Sequence[int],
    settings: InstanceParameters,
    block_px: Sequence[int],
    *,
    factor: int | None = None,
    n_classes: int = 0,
    order: Iterable[int] | None = None,
) -> tuple[npt.NDArray[np.unsignedinteger[Any]], Objects]:
    """Separate a mask into objects block by block, in memory: those of `segment_mask` in another numbering.

    Parameters
    ----------
    read : gives what was seen (*window) in a window of the image, as for `cut_block`
    shape : of the image
    block_px : size of a block, px
    factor : so many blocks along each axis are joined at once; None as `join_factor` says
    n_classes : as for `cut_block`
    order : in which the blocks are worked on, numbers in raster order; no order changes the answer

    Returns
    -------
    labels : (*spatial) uint16 or uint32
    objects : what is known of them
    """
    rule, keep = rules(settings, shape)
    grids = levels(BlockGrid(tuple(shape), tuple(block_px)), factor or join_factor(len(shape)))
    leaves, numbered = {}, {}
    for k in range(len(grids[0])) if order is None else order:
        window, box = grids[0].window(k, halo_px(settings, len(shape))), grids[0].box(k)
        basins, graph = cut_block(read(window), window, box, shape, settings, n_classes)
        closed = close_objects(graph, rule, keep)
        leaves[k], numbered[k] = leaf(closed), basins.through(closed.numbers)
    nodes = [[leaves[k] for k in range(len(grids[0]))]]
    children = [
        [finer.numbers_meeting(grid.box(k)) for k in range(len(grid))] for finer, grid in itertools.pairwise(grids)
    ]
    for grid, groups in zip(grids[1:], children, strict=True):
        parts = [[nodes[-1][child] for child in group] for group in groups]
        nodes.append([join_nodes(part, grid.box(k), shape, rule, keep) for k, part in enumerate(parts)])
    tables, classes = _name_objects(nodes, children)
    root = nodes[-1][0]
    labels = np.zeros(tuple(shape), label_dtype(root.n_objects))
    for k, numbers in numbered.items():
        labels[grids[0].box(k)] = numbers.through(tables[k].astype(labels.dtype)).array()
    return labels, Objects(root.n_objects, root.n_wide, classes if n_classes > 1 else classes[:0])


def _name_objects(
    nodes: list[list[Node]], children: list[list[list[int]]]
) -> tuple[list[Ints], npt.NDArray[np.uint8]]:
    """From the root down: the table of each block's own numbers, and the class of each object."""
    classes = np.zeros(nodes[-1][0].n_objects, np.uint8)
    given = {0: (0, np.zeros(0, np.int64))}
    for level, groups in zip(reversed(nodes), [*reversed(children), []], strict=True):
        tables = [own_table(node, *given[k]) for k, node in enumerate(level)]
        for node, table in zip(level, tables, strict=True):
            classes[table[1 : len(node.classes) + 1] - 1] = node.classes
        told = [child_tables(node, *given[k]) for k, node in enumerate(level)]
        given = dict(zip(itertools.chain(*groups), itertools.chain(*told), strict=True))
    return tables, classes
