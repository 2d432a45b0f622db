"""Blocks joined to larger ones: what stays open, what is kept on disk, how numbers come down."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import FileFormatError
from cellscribble.segment.glue import glue
from cellscribble.segment.graph import BasinGraph
from cellscribble.segment.instances import cut_block, rules
from cellscribble.segment.parameters import InstanceParameters, halo_px
from cellscribble.segment.settle import Closed, close_objects
from cellscribble.segment.stitch import EMPTY, Node, child_tables, join_nodes, leaf, own_table

SETTINGS = InstanceParameters(smallest_object_px=1, smoothing_px=0.0, largest_radius_px=4.0)


def cut(seen: np.ndarray, grid: BlockGrid, k: int) -> Closed:
    window = grid.window(k, halo_px(SETTINGS, seen.ndim))
    _, graph = cut_block(seen[window], window, grid.box(k), seen.shape, SETTINGS, n_classes=2)
    return close_objects(graph, *rules(SETTINGS, seen.shape))


def row() -> tuple[np.ndarray, BlockGrid]:
    """Four blocks in a row: a bar over the first two, one over the middle, a cell in the last."""
    seen = np.zeros((8, 32), np.uint8)
    seen[1:3, 6:10] = 1
    seen[5:7, 14:18] = 2
    seen[3:6, 26:29] = 1
    seen[3, 26] = 2
    return seen, BlockGrid((8, 32), (8, 8))


def joined(seen: np.ndarray, grid: BlockGrid, ks: list[int]) -> Node:
    boxes = [grid.box(k) for k in ks]
    box = (slice(0, 8), slice(boxes[0][1].start, boxes[-1][1].stop))
    return join_nodes([leaf(cut(seen, grid, k)) for k in ks], box, seen.shape, *rules(SETTINGS, seen.shape))


def same(one: Node, two: Node) -> None:
    for field in fields(Node):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if field.name == "open":
            for name in (f.name for f in fields(BasinGraph) if f.name != "edge"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
            for name in ("position", "basin", "height"):
                np.testing.assert_array_equal(getattr(a.edge, name), getattr(b.edge, name), strict=True)
        elif field.name == "numbers":
            assert len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y, strict=True)
        else:
            np.testing.assert_array_equal(a, b)


def test_a_node_closes_what_lies_in_its_blocks_and_keeps_the_rest_open() -> None:
    left = joined(*row(), [0, 1])
    # The bar over the first two blocks is settled; of the one over the middle, 2 x 2 px are in block 1.
    assert (left.n_closed, left.n_objects, left.classes.tolist()) == (1, 1, [1])
    assert left.open.size.sum() == 4
    assert left.open.votes.sum(axis=0).tolist() == [0, 4]
    assert sorted(left.open.edge.position.tolist()) == [5 * 32 + 15, 6 * 32 + 15]
    right = joined(*row(), [2, 3])
    assert (right.n_closed, right.n_objects, right.counts.tolist()) == (0, 1, [0, 1])


def test_the_root_has_nothing_open_and_its_numbers_come_down_to_the_blocks() -> None:
    seen, grid = row()
    left, right = joined(seen, grid, [0, 1]), joined(seen, grid, [2, 3])
    root = join_nodes([left, right], (slice(0, 8), slice(0, 32)), seen.shape, *rules(SETTINGS, seen.shape))
    assert (root.n_objects, root.n_closed, root.open.n, root.classes.tolist()) == (3, 1, 0, [2])
    # The cell in the last block is object 2, the bar over the middle, settled at the root, 3.
    assert own_table(root, 0, np.zeros(0, np.int64)).tolist() == [0, 3]
    (before_left, of_left), (before_right, of_right) = child_tables(root, 0, np.zeros(0, np.int64))
    assert (before_left, before_right) == (0, 1)
    assert set(of_left.tolist()) == set(of_right.tolist()) == {3}
    (_, first), (_, second) = child_tables(left, before_left, of_left)
    assert (set(first.tolist()), set(second.tolist())) == ({1}, {1, 3})
    (_, third), (before_last, last) = child_tables(right, before_right, of_right)
    assert set(third.tolist()) == {3}
    assert own_table(leaf(cut(seen, grid, 3)), before_last, last).tolist() == [0, 2]


def test_edges_looked_up_piece_by_piece_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = (np.random.default_rng(0).random((8, 32)) < 0.7).astype(np.uint8)
    grid = BlockGrid((8, 32), (8, 8))
    whole = joined(seen, grid, [1, 2])
    assert len(whole.open.pairs) > 1
    monkeypatch.setattr("cellscribble.segment.glue.PIECE", 3)
    same(joined(seen, grid, [1, 2]), whole)


def test_blocks_without_foreground_are_empty_nodes() -> None:
    seen = np.zeros((8, 32), np.uint8)
    seen[1:3, 10:14] = 1
    grid = BlockGrid((8, 32), (8, 8))
    rule = rules(SETTINGS, seen.shape)
    node = join_nodes([EMPTY, leaf(cut(seen, grid, 1))], (slice(0, 8), slice(0, 16)), seen.shape, *rule)
    assert (node.n_objects, node.classes.size, node.open.n) == (1, 0, 0)
    assert child_tables(node, 5, np.zeros(0, np.int64))[1][0] == 5
    nothing = join_nodes([EMPTY, EMPTY], (slice(0, 8), slice(16, 32)), seen.shape, *rule)
    assert (nothing.n_objects, nothing.open.n) == (0, 0)
    root = join_nodes([node, nothing], (slice(0, 8), slice(0, 32)), seen.shape, *rule)
    assert (root.n_objects, [len(n) for n in root.numbers]) == (1, [0, 0])


def test_a_missing_part_that_is_led_into_is_noticed() -> None:
    # A wedge: all ways lead to the right.
    seen = np.zeros((32, 64), np.uint8)
    seen[:, 2:60] = np.abs(np.arange(32) - 16)[:, None] * 4 < np.arange(58)
    settings = InstanceParameters(largest_radius_px=32.0)
    grid, whole = BlockGrid(seen.shape, (32, 16)), (slice(0, 32), slice(0, 64))
    parts = []
    for k in range(len(grid)):
        _, graph = cut_block(seen, whole, grid.box(k), seen.shape, settings)
        parts.append(close_objects(graph, *rules(settings, seen.shape)).open)
    assert not parts[1].inside.all()
    glue(parts, whole, seen.shape)
    parts[2] = EMPTY.open
    with pytest.raises(AssertionError, match="a part that is not there"):
        glue(parts, whole, seen.shape)


def test_a_node_is_read_as_it_was_written(tmp_path: Path) -> None:
    seen, grid = row()
    for node in (joined(seen, grid, [0, 1]), leaf(cut(seen, grid, 0)), EMPTY):
        path = tmp_path / "node.node"
        node.save(path)
        same(Node.load(path), node)
    assert [p.name for p in tmp_path.iterdir()] == ["node.node"]
    same(Node.load(tmp_path / "none.node"), EMPTY)


def test_a_damaged_node_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "node.node"
    leaf(cut(*row(), 0)).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError, match=r"node.node cannot be read .* delete it"):
        Node.load(path)
    np.savez(path, counted=np.zeros(3, int))
    with pytest.raises(FileFormatError, match="delete it"):
        Node.load(path)
