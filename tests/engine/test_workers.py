"""The work on one image handed to others: workers of dask.distributed, and shards that know nothing of each other."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellscribble.bundle import open_model
from cellscribble.core.blocks import BlockGrid
from cellscribble.core.errors import CellScribbleError, InputError, MissingExtraError, ModelError, OutputError
from cellscribble.engine import outputs, steps, zarr_job
from cellscribble.engine.batch import predict_files
from cellscribble.engine.finish import stitch
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.remote import Recipe, work_on
from cellscribble.engine.shards import own_tasks, parse_shard
from cellscribble.engine.unfinished import open_unfinished
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.engine.conftest import OBJECTS
from tests.engine.test_zarr_job import Killed, chunks, nothing, picture, segment, write
from tests.infer.analytic import disks, metadata, write_model

BLOCK = {"block_px": (64,)}


def contents_of(job):
    """The bytes of all that came out, and of the objects' classes; not the command and the date."""
    stores = [path for path in (job.labels, job.probability, job.uncertainty) if path is not None]
    return {path.name: chunks(path) for path in stores}


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


def run_shard(path: Path, model, index: int, count: int, **options):
    heard = []
    jobs = predict_files(
        [path],
        model,
        None,
        PredictOptions(device="cpu", shard=(index, count), **options),
        lambda event, /, **fields: heard.append((event, fields)),
    )
    return jobs[0], dict(heard)


KINDS = [2, 3, "classes", "as_classes", "planes"]


def case(models, kind):
    """Pixels, model and options of a kind of run."""
    flat = kind not in (3, "planes")
    pixels = picture((200, 210) if flat else (20, 60, 70), 3)
    options = {"block_px": (40,) if flat else (10, 24, 24), "probability": True, "uncertainty": True}
    if kind in ("as_classes", "planes"):
        options[kind] = True
    if kind == 3:
        options["ome_zarr"] = "0.5"
    return pixels, models[{"as_classes": "classes", "planes": 2}.get(kind, kind)], options


@pytest.mark.parametrize("kind", KINDS)
def test_workers_give_the_bytes_of_threads(models, tmp_path, cluster, kind):
    pixels, model, options = case(models, kind)
    expected, _ = segment(write(tmp_path, pixels, "slide"), model, **options)
    expected = contents_of(expected)
    job, heard = segment(
        tmp_path / "slide.zarr", model, overwrite=True, scheduler=cluster.scheduler_address, **options
    )
    assert dict(heard)["workers"] == {"n": 2, "n_threads": 4}
    assert contents_of(job) == expected


def test_workers_take_the_level_that_was_chosen(tmp_path, cluster):
    model = open_model(
        write_model(tmp_path / "model.onnx", metadata(pixel_size_um=(0.5, 0.5), segmenter_parameters=OBJECTS))
    )
    path = tmp_path / "slide.zarr"
    write_ome_zarr(path, picture((400, 420), 3, 12.0), "CYX", (0.25, 0.25), kind="image", n_levels=3)
    expected, heard = segment(path, model, **BLOCK)
    assert dict(heard)["image"]["level"] == 1
    contents, shape = contents_of(expected), open_image(expected.labels).spatial_shape
    job, heard = segment(path, model, overwrite=True, scheduler=cluster.scheduler_address, **BLOCK)
    assert dict(heard)["image"]["level"] == 1
    assert contents_of(job) == contents
    assert shape == (200, 210)
    for index in (1, 2):
        run_shard(path, model, index, 2, overwrite=True, **BLOCK)
    (job,) = stitch(tmp_path, nothing)
    assert contents_of(job) == contents


def test_a_run_of_threads_goes_on_with_workers(models, tmp_path, cluster, monkeypatch):
    pixels = picture((300, 300), 4)
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], **BLOCK)
    path = write(tmp_path, pixels)
    real, seen = steps.See.write, []

    def fails(self, look):
        seen.append(look.k)
        if len(seen) == 8:
            raise Killed
        return real(self, look)

    with monkeypatch.context() as patch:
        patch.setattr(steps.See, "write", fails)
        with pytest.raises(Killed):
            segment(path, models[2], **BLOCK)
    known = len((tmp_path / "slide_labels.unfinished" / "journal-1-of-1.txt").read_text().split("see")) - 1
    seen.clear()
    monkeypatch.setattr(steps.See, "write", lambda self, look: (seen.append(look.k), real(self, look))[1])
    job, _ = segment(path, models[2], scheduler=cluster.scheduler_address, **BLOCK)
    assert chunks(job.labels) == chunks(straight.labels)
    assert len(seen) == 25 - known


def test_a_damaged_block_is_left_out_by_workers_too(models, tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("cellscribble.io.ome_zarr_read.LAZY_BYTES", 0)
    path = write(tmp_path, np.tile(picture((512, 512), 4), (1, 2, 2)))
    (path / "0" / "0" / "1" / "0").write_bytes(b"not a chunk")
    job, _ = segment(path, models[2], block_px=(256,), on_error="skip", scheduler=cluster.scheduler_address)
    boxes = [d["box_px"] for d in json.loads(job.provenance.read_text())["damaged"]]
    assert [[512, 768], [0, 256]] in boxes


def recipe_of(path: Path, model, cluster, monkeypatch) -> Recipe:
    """What would be sent to workers for this image; its run is begun."""
    real, kept = zarr_job._recipe, []

    def keep(*args):
        kept.append(real(*args))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(zarr_job, "_recipe", keep)
        with pytest.raises(Killed):
            segment(path, model, scheduler=cluster.scheduler_address)
    return kept[0]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"version": "9.9"}, InputError, r"it has CellScribble .*, the run 9\.9; install the same"),
        ({"folder": "/nowhere"}, OutputError, r"does not see /nowhere; all computers must see the results"),
        ({"model": "/nowhere.onnx"}, ModelError, r"does not see /nowhere\.onnx; all computers must see the model"),
        ({"sha256": "0"}, ModelError, "another model than that of the run; put the same file there"),
        ({"image": "/nowhere.zarr"}, InputError, r"does not see /nowhere\.zarr; all computers must see the image"),
        ({"device": "cuda"}, InputError, "--device cpu"),
    ],
)
def test_a_worker_that_cannot_begin_says_why(models, tmp_path, cluster, monkeypatch, change, kind, message):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    recipe = recipe_of(write(tmp_path, picture((60, 60))), models[2], cluster, monkeypatch)
    with pytest.raises(kind, match=f"the worker on .* cannot begin: .*{message}") as caught:
        work_on(replace(recipe, n_networks=1, **change), "see", 0)
    assert "\n" not in str(caught.value)


def test_a_worker_does_no_more_at_once_than_is_planned(models, tmp_path, cluster, monkeypatch):
    recipe = recipe_of(write(tmp_path, picture((300, 300), 4)), models[2], cluster, monkeypatch)
    real, lock, now, most = steps.See.__call__, threading.Lock(), [0], [0]

    def counted(self, k):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        try:
            return real(self, k)
        finally:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(steps.See, "__call__", counted)
    with ThreadPoolExecutor(6) as executor:
        list(executor.map(lambda k: work_on(replace(recipe, n_networks=1), "see", k), range(4)))
    assert most[0] == 2


def test_what_a_worker_says_ends_the_run(models, tmp_path, cluster, monkeypatch):
    model = write_model(tmp_path / "model.onnx")
    loaded = replace(models[2], path=model)
    with pytest.raises(ModelError, match="another model than that of the run"):
        segment(write(tmp_path, picture((60, 60))), loaded, scheduler=cluster.scheduler_address)


def test_small_images_say_that_workers_do_not_get_them(models, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", disks()[0])
    heard = []
    predict_files(
        [tmp_path / "a.tif"],
        models[2],
        tmp_path / "out",
        PredictOptions(device="cpu", workers=2),
        lambda event, /, **fields: heard.append((event, fields)),
    )
    assert "workers get blocks of OME-Zarr" in " ".join(dict(heard)["done"]["notes"])


def test_the_extra_is_named_where_it_is_missing(models, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    path = write(tmp_path, picture((60, 60)))
    for options in ({"workers": 2}, {"scheduler": "tcp://localhost:1"}):
        with pytest.raises(MissingExtraError, match=r"pip install 'cellscribble\[cluster\]'"):
            segment(path, models[2], **options)


def test_a_scheduler_that_is_not_there_is_named(models, tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    monkeypatch.setattr("cellscribble.engine.cluster.CONNECT_S", 0.5)
    path = write(tmp_path, picture((60, 60)))
    with pytest.raises(InputError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"):
        segment(path, models[2], scheduler="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="expected an address such as"):
        segment(path, models[2], scheduler=str(tmp_path / "scheduler.json"))
    (tmp_path / "scheduler.json").write_text("{}")
    with pytest.raises(InputError, match="expected an address such as"):
        segment(path, models[2], scheduler=str(tmp_path / "scheduler.json"))


def test_workers_that_do_not_start_are_explained(models, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")

    def refuse(**settings):
        raise RuntimeError("Cluster failed to start")

    monkeypatch.setattr(distributed, "LocalCluster", refuse)
    with pytest.raises(CellScribbleError, match=r"7 workers cannot be started \(Cluster failed.*leave --workers out"):
        segment(write(tmp_path, picture((60, 60))), models[2], workers=7)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a POSIX system")
def test_a_run_that_waits_for_its_first_worker_can_be_stopped(models, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop = threading.Timer(3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    try:
        with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as empty:
            stop.start()
            start = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                segment(write(tmp_path, picture((60, 60))), models[2], scheduler=empty.scheduler_address)
            assert time.monotonic() - start < 30
    finally:
        stop.cancel()
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "slide_labels.unfinished").is_dir()


def test_who_does_the_work_is_said_once():
    with pytest.raises(InputError, match="exclude each other"):
        PredictOptions(workers=2, shard=(1, 2))


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_a_shard_that_is_none_is_refused(text):
    assert parse_shard("3/8") == (3, 8)
    with pytest.raises(InputError, match="such as 3/8"):
        parse_shard(text)


@pytest.mark.parametrize(("shape", "block", "factor"), [((170, 230), (10, 16), 8), ((30, 50, 70), (8, 16, 16), 4)])
def test_each_task_belongs_to_one_shard_that_has_its_last_block(shape, block, factor):
    blocks = BlockGrid(shape, block)
    for grid in (blocks, blocks.coarser(factor)):
        for count in (1, 3, 7, len(blocks) + 2):
            own = np.array([own_tasks(grid, blocks, (i, count)) for i in range(1, count + 1)])
            assert (own.sum(axis=0) == 1).all()
            for k in range(len(grid)):
                shard = own_tasks(blocks, blocks, (int(own[:, k].argmax()) + 1, count))
                assert shard[blocks.numbers_meeting(grid.box(k))[-1]]
    assert np.flatnonzero(own_tasks(blocks, blocks, (2, 3))).tolist() == list(
        range(len(blocks) // 3, len(blocks) * 2 // 3)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_shards_at_once_and_stitch_give_the_bytes_of_one_run(models, tmp_path, kind):
    pixels, model, options = case(models, kind)
    options["overlay"] = True
    straight, _ = segment(write(tmp_path, pixels, "slide"), model, **options)
    expected, record = contents_of(straight), json.loads(straight.provenance.read_text())
    with ThreadPoolExecutor(3) as executor:
        results = executor.map(
            lambda i: run_shard(tmp_path / "slide.zarr", model, i, 3, overwrite=True, **options), (1, 2, 3)
        )
        heard = [heard for _, heard in results]
    assert all("shard" in events and "done" not in events for events in heard)
    assert contents_of(straight) == expected  # of the run before: nothing is replaced until the end
    (job,) = stitch(tmp_path, nothing)
    assert contents_of(job) == expected
    again = json.loads(job.provenance.read_text())
    assert {name: again[name] for name in ("n_objects", "blocks", "damaged", "provider", "segmenter")} == {
        name: record[name] for name in ("n_objects", "blocks", "damaged", "provider", "segmenter")
    }
    assert job.overlay.is_file()
    assert not job.unfinished.exists()


def test_shards_with_a_limit_of_memory_each_give_the_bytes_of_one_run(models, tmp_path):
    path = write(tmp_path, picture((600, 700), 3))
    run_shard(path, models[2], 1, 2, max_memory=8 * 10**9)
    job, heard = run_shard(path, models[2], 2, 2)  # keeps the blocks of the first, whatever it would plan itself
    assert heard["plan"]["writes"] == [str(job.unfinished)]
    (job,) = stitch(tmp_path, nothing)
    contents = contents_of(job)
    block = json.loads(job.provenance.read_text())["blocks"]["size_px"]
    assert heard["plan"]["block_px"] == block
    straight, _ = segment(path, models[2], overwrite=True, block_px=tuple(block))
    assert contents_of(straight) == contents


def test_a_limit_that_a_shard_cannot_keep_ends_it_alone(models, tmp_path):
    path = write(tmp_path, picture((600, 700), 3))
    run_shard(path, models[2], 1, 2)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="--max-memory 50 MB is too little"):
        run_shard(path, models[2], 2, 2, max_memory=50 * 10**6)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("who", [{"workers": 2}, {"scheduler": "tcp://127.0.0.1:1"}, {"shard": (2, 3)}])
def test_a_dry_run_needs_no_workers_and_writes_nothing(models, tmp_path, who):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    path = write(tmp_path, picture((600, 700), 3))
    before = sorted(tmp_path.rglob("*"))
    _, heard = segment(path, models[2], block_px=(100,), dry_run=True, **who)
    assert sorted(tmp_path.rglob("*")) == before
    assert not {"workers", "done", "shard"} & set(dict(heard))
    plan = dict(heard)["plan"]
    assert plan["workers"] == who.get("workers", 0)
    assert plan["n_blocks"] == (14 if "shard" in who else 42)


@pytest.mark.parametrize("where", [{"into_image": "cells"}, {"format": "tiff"}])
def test_shards_end_where_one_run_does(models, tmp_path, monkeypatch, where):
    monkeypatch.setattr(outputs, "MAX_TIFF_PIXELS", 1000)
    pixels, model, options = case(models, 2)
    straight, _ = segment(write(tmp_path, pixels, "slide"), model, **options, **where)
    expected = np.asarray(open_image(straight.labels).data)
    for i in (1, 2):
        run_shard(tmp_path / "slide.zarr", model, i, 2, overwrite=True, **options, **where)
    (job,) = stitch(straight.unfinished, nothing)
    assert job.labels == straight.labels
    np.testing.assert_array_equal(np.asarray(open_image(job.labels).data), expected)


def test_a_shard_cuts_and_joins_what_is_its_own_and_the_network_is_asked_once(models, tmp_path, monkeypatch):
    path = write(tmp_path, picture((500, 120), 3))
    for index in (1, 2, 3):
        job, _ = run_shard(path, models[2], index, 3, block_px=(16,))
    lines = [line.split() for p in sorted(job.unfinished.glob("journal-*")) for line in p.read_text().splitlines()]
    n_blocks = 32 * 8
    done = {stage: [int(k) for name, k, _ in lines if name == stage] for stage in ("see", "cut", "join1", "number")}
    assert sorted(done["see"]) == list(range(n_blocks))
    assert n_blocks > len(set(done["cut"])) == len(done["cut"]) > 0.5 * n_blocks
    assert len(done["join1"]) >= 1
    assert not done["number"]

    def asked(self, k):
        raise AssertionError("a block is seen again")

    monkeypatch.setattr(steps.See, "read", asked)
    stitch(path, nothing)
    assert job.labels.is_dir()


def test_stitch_names_the_shards_that_are_missing_and_finishes_nothing(models, tmp_path):
    path = write(tmp_path, picture((300, 300), 3))
    for index in (1, 4):
        job, _ = run_shard(path, models[2], index, 6, **BLOCK)
    for out in (tmp_path, job.unfinished, job.labels, path):
        with pytest.raises(
            InputError, match=r"blocks were not seen yet; run the shards 2-3,5-6 of 6 again \(--shard 2/6"
        ):
            stitch(out, nothing)
    assert not job.labels.exists()
    assert not list(job.unfinished.glob("labels.zarr"))
    for index in (2, 3, 5, 6):
        run_shard(path, models[2], index, 6, **BLOCK)
    assert [done.labels for done in stitch(job.labels, nothing)] == [job.labels]
    for out in (tmp_path, job.unfinished, job.labels, path):
        assert stitch(out, nothing) == []
    with pytest.raises(InputError, match="nothing unfinished at"):
        stitch(tmp_path / "other.zarr", nothing)


def test_the_plain_command_finishes_shards_as_well(models, tmp_path):
    pixels = picture((300, 300), 3)
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], **BLOCK)
    path = write(tmp_path, pixels)
    run_shard(path, models[2], 2, 3, **BLOCK)
    run_shard(path, models[2], 1, 7, **BLOCK)  # an array of another size goes on with what is there
    job, _ = segment(path, models[2], **BLOCK)
    assert chunks(job.labels) == chunks(straight.labels)


def test_a_shard_that_was_killed_goes_on(models, tmp_path, monkeypatch):
    pixels = picture((300, 300), 3)
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], **BLOCK)
    path = write(tmp_path, pixels)
    real, seen = steps.See.write, []

    def fails(self, look):
        if len(seen) == 4:
            raise Killed
        seen.append(look.k)
        return real(self, look)

    with monkeypatch.context() as patch:
        patch.setattr(steps.See, "write", fails)
        with pytest.raises(Killed):
            run_shard(path, models[2], 1, 2, **BLOCK)
    assert len(seen) == 4
    monkeypatch.setattr(steps.See, "write", lambda self, look: (seen.append(look.k), real(self, look))[1])
    for index in (2, 1):
        job, _ = run_shard(path, models[2], index, 2, **BLOCK)
    assert sorted(seen) == list(range(25))
    stitch(job.unfinished, nothing)
    assert chunks(job.labels) == chunks(straight.labels)


def test_a_shard_with_other_settings_is_refused_and_destroys_nothing(models, tmp_path):
    path = write(tmp_path, picture((300, 300), 3))
    job, _ = run_shard(path, models[2], 1, 2, **BLOCK)
    journal = (job.unfinished / "journal-1-of-2.txt").read_text()
    with pytest.raises(OutputError, match=r"was begun with other settings: .*threshold 0\.5 -> 0\.7; give what"):
        run_shard(path, models[2], 2, 2, threshold=0.7, **BLOCK)
    assert (job.unfinished / "journal-1-of-2.txt").read_text() == journal


def test_stitch_refuses_another_model_or_image(models, tmp_path):
    model = write_model(tmp_path / "model.onnx", models[2].metadata)
    path = write(tmp_path, picture((130, 130), 3))
    for index in (1, 2):
        job, _ = run_shard(path, replace(models[2], path=model), index, 2, **BLOCK)
    model.write_bytes(write_model(tmp_path / "other.onnx").read_bytes())
    with pytest.raises(OutputError, match="was begun with other settings: model"):
        stitch(job.unfinished, nothing)
    assert (job.unfinished / "seen").is_dir()


def test_two_processes_are_not_one_shard_and_stitch_waits_for_all(models, tmp_path):
    path = write(tmp_path, picture((130, 130), 3))
    job, _ = run_shard(path, models[2], 1, 2, **BLOCK)
    known = json.loads((job.unfinished / "job.json").read_text())
    with open_unfinished(job.unfinished, known["key"], {}, (2, 2)):
        with pytest.raises(OutputError, match="in use by another run"):
            run_shard(path, models[2], 2, 2, **BLOCK)
        with pytest.raises(OutputError, match="in use by another run"):
            stitch(job.unfinished, nothing)
        run_shard(path, models[2], 1, 2, **BLOCK)
    run_shard(path, models[2], 2, 2, **BLOCK)
    stitch(job.unfinished, nothing)
    assert job.labels.is_dir()


def test_shards_divide_the_small_images_of_a_folder(models, tmp_path):
    folder = tmp_path / "imgs"
    folder.mkdir()
    for index in range(5):
        tifffile.imwrite(folder / f"{index}.tif", disks()[0])
    out = tmp_path / "out"
    names = []
    for index in (1, 2, 3):
        options = PredictOptions(device="cpu", shard=(index, 3))
        names.append([job.name for job in predict_files([folder], models[2], out, options, nothing)])
    assert names == [["0"], ["1", "2"], ["3", "4"]]
    assert len(list(out.glob("*_labels.tif"))) == 5


def test_an_image_that_is_resampled_is_shared_too(models, tmp_path):
    """Its pixels are finer than the network's in y and coarser in x; some objects lie between them."""
    pytest.importorskip("distributed", reason="needs the extra cluster")
    pixels = (255 * (np.random.default_rng(1).random((1, 120, 130)) > 0.8)).astype(np.uint8)
    path = tmp_path / "slide.zarr"
    write_ome_zarr(path, pixels, "CYX", (0.25, 0.5), kind="image")
    meta = replace(models[2].metadata, pixel_size_um=(0.3, 0.3))
    model = open_model(write_model(tmp_path / "model.onnx", meta))
    options = {"rescale": True, "probability": True, "block_px": (32,)}
    straight, _ = segment(path, model, **options)
    expected = contents_of(straight)
    for i in (1, 2):
        run_shard(path, model, i, 2, overwrite=True, **options)
    (job,) = stitch(tmp_path, nothing)
    assert contents_of(job) == expected
    job, _ = segment(path, model, overwrite=True, workers=1, **options)
    assert contents_of(job) == expected


def command_of(path: Path, model: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "cellscribble", "predict", str(path), "-m", str(model), "--block", "64",
        "--device", "cpu", *more,
    ]  # fmt: skip


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def n_seen(folder: Path) -> int:
    return sum(path.read_text().count("see ") for path in folder.glob("journal-*.txt"))


def children_of(process: int) -> list[int]:
    """Of all its threads."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_local_workers_of_which_one_is_killed_give_the_bytes_of_threads(models, tmp_path):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    pixels = np.tile(picture((500, 500), 6), (1, 2, 1))
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], **BLOCK)
    path = write(tmp_path, pixels)
    process = subprocess.Popen(command_of(path, models[2].path, "--workers", "2"), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: n_seen(tmp_path / "slide_labels.unfinished") > 5)
    # Besides the workers there is a process of multiprocessing that tracks what they share.
    workers = [
        child for child in children_of(process.pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert chunks(tmp_path / "slide_labels.zarr") == chunks(straight.labels)


@pytest.fixture
def scheduler_file(tmp_path):
    """A scheduler and two workers, each a process of its own."""
    pytest.importorskip("distributed", reason="needs the extra cluster")
    file = tmp_path / "cluster" / "scheduler.json"
    file.parent.mkdir()
    own = ["--scheduler-file", str(file), "--no-dashboard"]
    run = [sys.executable, "-m"]
    processes = [
        subprocess.Popen(
            [*run, "distributed.cli.dask_scheduler", *own, "--host", "127.0.0.1", "--port", "0"],
            stderr=subprocess.DEVNULL,
        )
    ]
    try:
        wait_for(file.is_file)
        for _ in range(2):
            processes.append(
                subprocess.Popen(
                    [*run, "distributed.cli.dask_worker", *own, "--nthreads", "2", "--no-nanny"],
                    stderr=subprocess.DEVNULL,
                    cwd=file.parent,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                )
            )
        yield file, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_cluster_of_which_a_worker_is_lost_gives_the_bytes_of_threads(models, tmp_path, scheduler_file):
    file, processes = scheduler_file
    pixels = np.tile(picture((500, 500), 6), (1, 2, 1))
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], **BLOCK)
    path = write(tmp_path, pixels)

    def lose_a_worker():
        wait_for(lambda: n_seen(tmp_path / "slide_labels.unfinished") > 5)
        processes[-1].kill()

    thread = threading.Thread(target=lose_a_worker)
    thread.start()
    job, _ = segment(path, models[2], scheduler=str(file), **BLOCK)
    thread.join()
    assert processes[-1].wait() == -signal.SIGKILL
    assert chunks(job.labels) == chunks(straight.labels)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGTERM cannot be handled there")
@pytest.mark.parametrize("more", [(), ("--workers", "2"), ("--shard", "1/1")])
def test_sigterm_ends_in_order_and_the_same_command_goes_on(models, tmp_path, more):
    pixels = np.tile(picture((500, 500), 6), (1, 2, 1))
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], **BLOCK)
    path, unfinished = write(tmp_path, pixels), tmp_path / "slide_labels.unfinished"
    process = subprocess.Popen(command_of(path, models[2].path, *more), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: n_seen(unfinished) > 5)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert stderr.splitlines()[-1] == "ended by SIGTERM"
    assert "Traceback" not in stderr
    journal = next(unfinished.glob("journal-*.txt")).read_text()
    assert journal.endswith("\n")
    assert 5 < n_seen(unfinished) < 128
    subprocess.run(command_of(path, models[2].path, *more), check=True, capture_output=True)
    if "--shard" in more:
        stitch(tmp_path, nothing)
    assert chunks(tmp_path / "slide_labels.zarr") == chunks(straight.labels)


def test_every_error_of_a_worker_is_ours(models, tmp_path, cluster, monkeypatch):
    """What fails in a worker keeps its kind on the way, so that the command line prints one line."""
    monkeypatch.setattr(steps.Cut, "__call__", lambda self, k: (_ for _ in ()).throw(OutputError("disk full")))
    with pytest.raises(CellScribbleError, match="disk full"):
        segment(write(tmp_path, picture((60, 60))), models[2], scheduler=cluster.scheduler_address)


def test_labels_of_workers_open(models, tmp_path, cluster):
    job, _ = segment(write(tmp_path, picture((90, 90))), models[2], scheduler=cluster.scheduler_address)
    assert np.asarray(open_image(job.labels).data).max() >= 1
