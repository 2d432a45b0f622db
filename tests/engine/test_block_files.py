"""An array kept as files, one a block."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import FileFormatError, OutputError
from cellscribble.core.runs import Runs
from cellscribble.engine.block_files import BlockFiles, make_folders, numbered_path


def _runs_of(block):
    return Runs.amid_zeros(np.arange(block.size), np.ones(block.size, np.int64), block.ravel(), block.shape)


@given(data=st.data())
def test_any_window_reads_what_was_written_and_0_elsewhere(tmp_path_factory, data):
    shape = data.draw(st.sampled_from([(17, 30), (5, 9, 11)]))
    grid = BlockGrid(shape, tuple(data.draw(st.integers(1, n + 3)) for n in shape))
    files = BlockFiles(tmp_path_factory.mktemp("array"), grid, np.uint32)
    # Of one, two or four bytes, in the same array too.
    largest = data.draw(st.sampled_from([1, 1000]))
    whole = largest * np.arange(1, np.prod(shape) + 1, dtype=np.uint32).reshape(shape)
    expected = np.zeros_like(whole)
    as_runs = data.draw(st.booleans())
    table = np.arange(largest * np.prod(shape) + 1, dtype=np.uint32)[::-1]
    for k in data.draw(st.sets(st.integers(0, len(grid) - 1))):
        block = whole[grid.box(k)]
        files.write(k, _runs_of(block) if as_runs else block)
        expected[grid.box(k)] = block
        np.testing.assert_array_equal(files.through(k, table), table[block])
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    window = tuple(slice(low, data.draw(st.integers(low + 1, n))) for low, n in zip(starts, shape, strict=True))
    np.testing.assert_array_equal(files.read(window), expected[window])


@pytest.mark.parametrize("damaged", [b"no block", b"R", b"R\x01\x01\x03\x01"])
def test_a_damaged_file_is_named(tmp_path, damaged):
    files = BlockFiles(tmp_path, BlockGrid((4, 4), (4, 4)), np.uint8)
    files.write(0, np.ones((4, 4), np.uint8))
    (path,) = (p for p in tmp_path.rglob("*") if p.is_file())
    path.write_bytes(damaged)
    with pytest.raises(FileFormatError, match=str(path)):
        files.read((slice(0, 4), slice(0, 4)))


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        BlockFiles(tmp_path / "file", BlockGrid((4, 4), (4, 4)), np.uint8).write(0, np.ones((4, 4)))


def test_the_folders_of_all_numbers_can_be_made_before_there_are_files(tmp_path):
    make_folders(tmp_path / "seen", 2001)
    assert {numbered_path(tmp_path / "seen", k).parent.is_dir() for k in (0, 999, 1000, 2000)} == {True}
    assert sorted(p.name for p in (tmp_path / "seen").iterdir()) == ["0", "1", "2"]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another output"):
        make_folders(tmp_path / "file", 1)
