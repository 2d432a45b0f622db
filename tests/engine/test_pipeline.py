"""The threads of one process: the parts of "see" run in their own, within bounds, and nothing is lost on the way."""

import threading
import time
from concurrent.futures import wait
from dataclasses import replace

import numpy as np
import pytest

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.intensity import Intensity
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.block_files import BlockFiles, make_folders
from cellscribble.engine.pipeline import Pipeline
from cellscribble.engine.schedule import Stage, run_stages
from cellscribble.engine.steps import See, decide_classes
from tests.infer.analytic import metadata

N_BLOCKS = 40
PX = 16


class Slow:
    """An image, or a network, that takes its time, and notes who asks and how many at once."""

    def __init__(self, answer, seconds):
        self._answer, self._seconds, self._lock = answer, seconds, threading.Lock()
        self.threads, self.now, self.most, self.n_done = set(), 0, 0, 0

    def __call__(self, *args):
        with self._lock:
            self.threads.add(threading.current_thread().name.rpartition("_")[0])
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self._seconds)
        with self._lock:
            self.now -= 1
            self.n_done += 1
        return self._answer(*args)


class SlowPixels:
    """Pixels on a disk that is far away."""

    def __init__(self, pixels, seconds):
        self.shape, self.dtype, self.ndim = pixels.shape, pixels.dtype, pixels.ndim
        self.read = Slow(lambda key: pixels[key], seconds)

    def __getitem__(self, key):
        return self.read(key)


def see_of(tmp_path, read_s, ask_s, write_s):
    pixels = (np.arange(N_BLOCKS * PX, dtype=np.uint8)[None, :] % 2 * np.ones((PX, 1), np.uint8))[None]
    image = ImageVolume(SlowPixels(pixels, read_s), "CYX", None, "far away", ("grey",))
    grid = BlockGrid(image.spatial_shape, (PX, PX))
    network = Slow(lambda block, keep: np.stack([1 - block[0], block[0]])[(slice(None), *keep)], ask_s)
    decide = Slow(decide_classes, write_s)
    files = BlockFiles(tmp_path / "seen", grid, np.uint8)
    make_folders(files.folder, len(grid))
    meta = metadata(2, halo_px=(0, 0), stride_multiple=(1, 1))
    see = See(image, meta, network, Intensity((0.0,), (1.0,)), grid, decide, files, None, None)
    return see, image.data.read, network, decide, pixels[0]


def run(see, pipeline):
    done, order = np.zeros(N_BLOCKS, bool), []
    run_stages(
        [Stage("see", see.grid, (), see)],
        pipeline,
        at_once=pipeline.at_once,
        done={"see": done},
        finished=lambda stage, k, word: order.append(k),
        failed=lambda stage, k, error: False,
    )
    return order


def test_each_part_has_threads_of_its_own_and_no_more_at_once_than_it_was_given(tmp_path):
    see, read, network, decide, pixels = see_of(tmp_path, 0.004, 0.004, 0.004)
    with Pipeline(2, 3, 2) as pipeline:
        order = run(see, pipeline)
    assert sorted(order) == list(range(N_BLOCKS))
    np.testing.assert_array_equal(see.seen.read((slice(0, PX), slice(0, N_BLOCKS * PX))), pixels)
    assert (read.threads, network.threads, decide.threads) == ({"read"}, {"network"}, {"write"})
    assert (read.most, network.most) == (2, 2)
    assert decide.most <= 3


def test_blocks_are_read_and_written_while_the_network_computes(tmp_path):
    see, read, _, decide, _ = see_of(tmp_path, 0.004, 0.004, 0.004)
    meanwhile = set()

    def watched(block, keep, ask=see.network):
        meanwhile.update(name for name, part in (("read", read), ("write", decide)) if part.now)
        return ask(block, keep)

    with Pipeline(1, 2, 1) as pipeline:
        run(replace(see, network=watched), pipeline)
    assert meanwhile == {"read", "write"}


@pytest.mark.parametrize("slow", [(0.01, 0, 0), (0, 0.01, 0), (0, 0, 0.01)])
@pytest.mark.parametrize("n_ahead", [0, 2])
def test_a_slow_part_does_not_let_blocks_pile_up(tmp_path, slow, n_ahead):
    see, *_ = see_of(tmp_path, *slow)
    begun, ended, most, lock = [0], [0], [0], threading.Lock()
    real_read, real_write = see.read, see.write

    class Counted(See):
        def read(self, k):
            with lock:
                begun[0] += 1
                most[0] = max(most[0], begun[0] - ended[0])
            return real_read(k)

        def write(self, look):
            word = real_write(look)
            with lock:
                ended[0] += 1
            return word

    counted = Counted(*(getattr(see, name) for name in See.__dataclass_fields__))
    with Pipeline(2, 3, n_ahead) as pipeline:
        assert pipeline.at_once == 3 + n_ahead
        run(counted, pipeline)
    assert begun[0] == ended[0] == N_BLOCKS
    assert most[0] <= pipeline.at_once


@pytest.mark.parametrize("part", ["read", "ask", "write"])
def test_an_error_in_any_part_ends_its_block_and_no_other(tmp_path, monkeypatch, part):
    see, *_ = see_of(tmp_path, 0, 0, 0)
    real = getattr(See, part)

    def fails(self, k_or_look):
        k = k_or_look if part == "read" else k_or_look.k
        if k == 3:
            raise OSError(28, "No space left on device")
        return real(self, k_or_look)

    monkeypatch.setattr(See, part, fails)
    with Pipeline(2, 3, 2) as pipeline:
        futures = [pipeline.submit(see, k) for k in range(8)]
        wait(futures)
    assert [k for k, future in enumerate(futures) if future.exception()] == [3]
    with pytest.raises(OSError, match="No space"):
        futures[3].result()


def test_what_is_read_ahead_can_be_cancelled_and_what_the_network_has_cannot(tmp_path):
    see, read, network, decide, _ = see_of(tmp_path, 0, 0.5, 0)
    with Pipeline(1, 2, 2) as pipeline:
        futures = [pipeline.submit(see, 0)]
        # Of blocks that are read side by side any may come to the network first.
        while not network.now:
            time.sleep(0.001)
        futures += [pipeline.submit(see, k) for k in range(1, 4)]
        while read.n_done < 4:
            time.sleep(0.001)
        assert [future.cancel() for future in futures] == [False, True, True, True]
    assert futures[0].result() == "done"
    assert (network.n_done, decide.n_done) == (1, 1)


def test_other_work_goes_to_the_writers():
    with Pipeline(1, 2, 1) as pipeline:
        name = pipeline.submit(lambda k: (k, threading.current_thread().name[:5]), 7).result()
    assert name == (7, "write")
