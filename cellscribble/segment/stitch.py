"""Objects across blocks: neighbouring blocks are joined to larger ones, those again, up to the whole image.

::

    leaf   one block: its settled objects, its open basins
    node   some nodes glued: what now lies wholly inside is settled, the rest stays open
    root   the whole image: nothing is open

A node keeps small tables and no pixels. Objects are numbered from the root down: a node learns how
many objects stand before it, and which objects its open basins became; it tells its children.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import Slices
from cellscribble.core.errors import FileFormatError
from cellscribble.io.atomic import atomic_path
from cellscribble.segment.ascent import Ints
from cellscribble.segment.glue import glue
from cellscribble.segment.graph import BasinGraph, Edge
from cellscribble.segment.joining import JoinRule
from cellscribble.segment.settle import Closed, Keep, close_objects


@dataclass(frozen=True, slots=True)
class Node:
    """What is kept of a block, or of several that were joined.

    A node has its own numbers: 0 nothing, 1..n_closed its settled objects, then its M open basins.

    n_closed : objects that are settled here
    n_objects : those that are settled here or below
    n_wide : how many of these are so wide that their shape was not seen
    classes : (n_closed,) uint8, class of each object settled here; (0,) where classes are not told apart
    numbers : for each child, (its number of open basins,) uint32: the own number here of each of them
    counts : (n_children,) int64, `n_objects` of each child
    open : the M basins whose objects may go on outside
    """

    n_closed: int
    n_objects: int
    n_wide: int
    classes: npt.NDArray[np.uint8]
    numbers: list[npt.NDArray[np.uint32]]
    counts: Ints
    open: BasinGraph

    def save(self, path: Path) -> None:
        """Write the node; the file is there when it is whole. Raises OutputError as `atomic_path`."""
        parts = {f.name: getattr(self.open, f.name) for f in fields(BasinGraph) if f.name != "edge"}
        parts |= {f"edge_{f.name}": getattr(self.open.edge, f.name) for f in fields(Edge)}
        parts |= {
            "counted": np.array([self.n_closed, self.n_objects, self.n_wide]),
            "classes": self.classes,
            "numbers": np.concatenate([np.zeros(0, np.uint32), *self.numbers]),
            "lengths": np.array([len(n) for n in self.numbers], np.int64),
            "counts": self.counts,
        }
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_bytes(_packed(parts))

    @classmethod
    def load(cls, path: Path) -> Node:
        """Read a node; `EMPTY` if there is no such file. Raises FileFormatError if it cannot be read."""
        try:
            parts = _unpacked(path.read_bytes())
            edge = Edge(**{f.name: parts.pop(f"edge_{f.name}") for f in fields(Edge)})
            n_closed, n_objects, n_wide = parts.pop("counted").tolist()
            numbers = np.split(parts.pop("numbers"), np.cumsum(parts.pop("lengths")))[:-1]
            classes, counts = parts.pop("classes"), parts.pop("counts")
            return cls(n_closed, n_objects, n_wide, classes, numbers, counts, BasinGraph(edge=edge, **parts))
        except FileNotFoundError:
            return EMPTY
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path} cannot be read ({error}); delete it, or start anew") from error


def _packed(parts: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Arrays as bytes, behind a line that says what they are. A zip of .npy files takes ten times as long to read."""
    # Wide numbers first, so that all lie where the processor likes them.
    ordered = sorted(parts.items(), key=lambda item: -item[1].itemsize)
    head = json.dumps([[name, part.dtype.str, part.shape] for name, part in ordered]).encode()
    return b"\n".join([head, b"".join(part.tobytes() for _, part in ordered)])


def _unpacked(stored: bytes) -> dict[str, npt.NDArray[Any]]:
    """What `_packed` made. Raises ValueError or TypeError if it is something else."""
    head, _, rest = stored.partition(b"\n")
    parts, start = {}, 0
    for name, dtype, shape in json.loads(head):
        parts[name] = np.frombuffer(rest, dtype, math.prod(shape), start).reshape(shape)
        start += parts[name].nbytes
    if start != len(rest):
        raise ValueError(f"{len(rest)} bytes; expected {start}")
    return parts


NO_BASINS = BasinGraph(
    summit=np.zeros(0, np.int64),
    height=np.zeros(0, np.int32),
    inside=np.zeros(0, bool),
    size=np.zeros(0, np.int64),
    first=np.zeros(0, np.int64),
    votes=np.zeros((0, 0), np.int64),
    pairs=np.zeros((0, 2), np.int64),
    neck=np.zeros(0, np.int32),
    edge=Edge(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32)),
)

EMPTY = Node(0, 0, 0, np.zeros(0, np.uint8), [], np.zeros(0, np.int64), NO_BASINS)
"""A block, or several, without foreground."""


def join_factor(ndim: int) -> int:
    """So many nodes along each axis are joined at once: 64 in all."""
    return {2: 8, 3: 4}[ndim]


def leaf(closed: Closed) -> Node:
    """The node of one block."""
    numbers: list[npt.NDArray[np.uint32]] = []
    return Node(
        closed.n_closed, closed.n_closed, closed.n_wide, closed.classes, numbers, np.zeros(0, np.int64), closed.open
    )


def join_nodes(children: Sequence[Node], box: Slices, shape: Sequence[int], rule: JoinRule, keep: Keep) -> Node:
    """One node from those that together fill `box` of an image of `shape`."""
    graph, basins = glue([child.open for child in children], box, shape)
    closed = close_objects(graph, rule, keep)
    counts = np.array([child.n_objects for child in children], np.int64)
    return Node(
        n_closed=closed.n_closed,
        n_objects=closed.n_closed + int(counts.sum()),
        n_wide=closed.n_wide + sum(child.n_wide for child in children),
        classes=closed.classes,
        numbers=[closed.numbers[basin + 1] for basin in basins],
        counts=counts,
        open=closed.open,
    )


def own_table(node: Node, before: int, of_open: Ints) -> Ints:
    """The object of each of a node's own numbers: (1 + n_closed + M,) int64, 0 where it was dropped.

    A node's objects stand behind those settled below it.

    before : objects that stand before all of this node
    of_open : (M,) int64, the object of each of its open basins, 0 where it was dropped
    """
    first = before + int(node.counts.sum()) + 1
    return np.concatenate([np.zeros(1, np.int64), np.arange(first, first + node.n_closed), of_open])


def child_tables(node: Node, before: int, of_open: Ints) -> list[tuple[int, Ints]]:
    """`before` and `of_open` of each child, from those of the node; the root's are 0 and empty."""
    table = own_table(node, before, of_open)
    begins = before + np.cumsum(node.counts) - node.counts
    return [(int(begin), table[numbers]) for begin, numbers in zip(begins, node.numbers, strict=True)]
