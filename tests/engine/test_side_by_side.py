import threading
import time
from contextlib import closing
from functools import partial

import pytest
import tifffile

from cellscribble.bundle import open_model
from cellscribble.engine import batch
from cellscribble.engine.batch import predict_files
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.side_by_side import ROOM_PX, Room, in_turn
from tests.infer.analytic import disks, metadata, write_model


class Heard(list):
    def __call__(self, event, /, **fields):
        self.append((event, *fields.values()))


def test_what_ends_first_is_still_told_of_in_turn():
    """The first waits until the last has ended."""
    last_ended = threading.Event()

    def work(k, report):
        report("image", k=k)
        report("progress", k=k)
        if k == 2:
            last_ended.set()
        assert last_ended.wait(10)
        report("done", k=k)
        return k

    heard = Heard()
    results = [result() for result in in_turn([partial(work, k) for k in range(3)], heard, at_once=3)]
    assert results == [0, 1, 2]
    assert [word for word in heard if word[0] != "progress"] == [(e, k) for k in range(3) for e in ("image", "done")]
    assert ("progress", 0) in heard


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_fails_raises_where_its_result_is_asked_for(at_once):
    def work(k, report):
        if k == 1:
            raise OSError("gone")
        return k

    found = []
    for k, result in enumerate(in_turn([partial(work, k) for k in range(4)], Heard(), at_once)):
        try:
            found.append(result())
        except OSError as error:
            found.append((k, str(error)))
    assert found == [0, (1, "gone"), 2, 3]


def test_who_leaves_early_waits_for_what_runs_and_nothing_else_begins():
    begun, ended = [], []

    def work(k, report):
        begun.append(k)
        while k:
            report("progress")
            time.sleep(0.01)
        ended.append(k)

    with closing(in_turn([partial(work, k) for k in range(9)], Heard(), 2)) as turns:
        assert next(turns)() is None
    assert ended == [0]
    assert set(begun) <= {0, 1, 2}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("image")]


def test_images_share_the_room_and_a_large_one_has_it_alone():
    room, lock, inside, together = Room(), threading.Lock(), [], []

    def come(n_pixels):
        with room.image(lambda: n_pixels, lambda n: n):
            with lock:
                inside.append(n_pixels)
                together.append(tuple(inside))
            time.sleep(0.02)
            with lock:
                inside.remove(n_pixels)

    sizes = [ROOM_PX // 4 + k for k in range(8)] + [10 * ROOM_PX] + [ROOM_PX // 2 - k for k in range(4)]
    threads = [threading.Thread(target=come, args=(n,)) for n in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted({n for those in together for n in those}) == sorted(sizes)
    assert all(sum(those) <= ROOM_PX for those in together if 10 * ROOM_PX not in those)
    assert [those for those in together if 10 * ROOM_PX in those] == [(10 * ROOM_PX,)]
    assert max(len(those) for those in together) > 1


def test_side_by_side_gives_what_one_after_the_other_gives(tmp_path, monkeypatch):
    images = tmp_path / "imgs"
    images.mkdir()
    for k in range(12):
        tifffile.imwrite(images / f"{k:02}.tif", disks()[0] + k)
    model = open_model(write_model(tmp_path / "model.onnx", metadata()))
    options = PredictOptions(device="cpu", probability=True)
    for name, n_cores in (("several", 4), ("one", 1)):
        monkeypatch.setattr(batch, "MOST_AT_ONCE", n_cores)
        monkeypatch.setattr(batch, "usable_cores", lambda n=n_cores: n)
        heard = Heard()
        predict_files([images], model, tmp_path / name, options, heard)
        assert [word[2].stem for word in heard if word[0] == "done"] == [f"{k:02}" for k in range(12)]
    for path in (tmp_path / "one").glob("*.tif"):
        assert path.read_bytes() == (tmp_path / "several" / path.name).read_bytes()
    assert len(list((tmp_path / "several").iterdir())) == 36
