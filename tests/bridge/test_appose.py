"""The worker in a process of its own, driven by Appose's Python service, as Fiji's Java one would."""

import contextlib
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cellscribble.bundle import open_model
from cellscribble.core.volume import ImageVolume
from cellscribble.infer.predict import predict
from cellscribble.infer.runner import Runner
from tests.infer.analytic import disks, write_model

appose = pytest.importorskip("appose", reason="pip install appose")

PREDICT = """
import sys, time
from cellscribble.bridge.appose_worker import predict
began = time.perf_counter()
task.outputs["labels"] = predict(task, image, axes, model, **options)
task.outputs["seconds"] = time.perf_counter() - began
task.outputs["torch"] = "torch" in sys.modules
"""
TRAIN = """
from cellscribble.bridge.appose_worker import train
task.outputs["model"] = train(task, {"a": image}, {"a": strokes}, "YX", out, minutes=minutes)
"""


@pytest.fixture
def service():
    made = appose.system().service([sys.executable], "-c", "import numpy; import appose.python_worker as w; w.main()")
    with made:
        yield made
    made.wait_for()
    # Appose leaves these to the garbage collector, which warns.
    for pipe in (made._process.stdout, made._process.stderr):
        pipe.close()


@pytest.fixture
def share():
    """Arrays in shared memory, given back at the end."""
    made = []

    def to_shared(array):
        shared = appose.NDArray(str(array.dtype), list(array.shape))
        shared.ndarray()[...] = array
        made.append(shared)
        return shared

    yield to_shared
    for one in made:
        one.shm.dispose()


def run(service, script, listen=None, **inputs):
    task = service.task(script, inputs)
    if listen is not None:
        task.listen(listen)
    task.start()
    # Appose raises for tasks that failed or were canceled; tests look at the status.
    with contextlib.suppress(Exception):
        task.wait_for()
    return task


def test_labels_are_those_of_predict_and_need_no_torch(service, share, tmp_path):
    model = write_model(tmp_path / "model.onnx")
    heard = []
    image = share(disks()[0])
    task = run(service, PREDICT, heard.append, image=image, axes="YX", model=str(model), options={})
    assert task.status == appose.service.TaskStatus.COMPLETE, task.error
    labels = task.outputs["labels"]
    expected = predict(ImageVolume(disks(), "CYX"), open_model(model), runner=Runner(open_model(model))).labels
    np.testing.assert_array_equal(labels.ndarray(), expected)
    assert labels.dtype == "uint16"
    assert task.outputs["torch"] is False
    assert "1 of 1 blocks" in [event.message for event in heard]
    labels.shm.dispose()


def test_the_model_stays_loaded_and_a_new_one_is_noticed(service, share, tmp_path):
    model = write_model(tmp_path / "model.onnx")
    image = share(disks()[0])
    counts = """
from cellscribble.bridge import appose_worker
task.outputs["loaded"] = appose_worker._warm.cache_info().misses
"""
    for _ in range(2):
        run(service, PREDICT, image=image, axes="YX", model=str(model), options={}).outputs["labels"].shm.dispose()
    assert run(service, counts).outputs["loaded"] == 1
    write_model(model)
    # A clock of the file system may be too coarse to tell one from the other.
    os.utime(model, ns=(0, 0))
    run(service, PREDICT, image=image, axes="YX", model=str(model), options={}).outputs["labels"].shm.dispose()
    assert run(service, counts).outputs["loaded"] == 2


def test_what_does_not_fit_is_told(service, share, tmp_path):
    model = write_model(tmp_path / "model.onnx")
    colour = share(np.zeros((48, 64, 3), np.uint8))
    task = run(service, PREDICT, image=colour, axes="YXS", model=str(model), options={})
    assert task.status == appose.service.TaskStatus.FAILED
    assert "the model expects 1 channel (DAPI)" in task.error
    gone = run(service, PREDICT, image=colour, axes="YXS", model=str(tmp_path / "gone.onnx"), options={})
    assert "there is no model file" in gone.error


def test_a_prediction_stops_when_it_is_canceled(service, share, tmp_path):
    model = write_model(tmp_path / "model.onnx")
    image = share(np.tile(disks()[0], (40, 40)))

    def cancel(event):
        if event.message and event.message.startswith("1 of"):
            event.task.cancel()

    options = {"block_px": [64, 64]}
    task = run(service, PREDICT, cancel, image=image, axes="YX", model=str(model), options=options)
    assert task.status == appose.service.TaskStatus.CANCELED


@pytest.mark.slow
def test_train_then_predict_on_shared_memory(service, share, tmp_path, disks_2d):
    image = share(disks_2d.image.data[0])
    strokes = share((disks_2d.scribbles + 1).astype(np.uint8))
    heard = []
    out = str(tmp_path / "run")
    task = run(service, TRAIN, heard.append, image=image, strokes=strokes, out=out, minutes=0.1)
    assert task.status == appose.service.TaskStatus.COMPLETE, task.error
    assert Path(task.outputs["model"]) == tmp_path / "run" / "model.onnx"
    assert {event.maximum for event in heard if event.current} == {100}
    found = run(service, PREDICT, image=image, axes="YX", model=task.outputs["model"], options={})
    assert found.outputs["labels"].ndarray().shape == (64, 64)
    found.outputs["labels"].shm.dispose()


@pytest.mark.slow
def test_a_training_stops_when_it_is_canceled(service, share, tmp_path, disks_2d):
    image = share(disks_2d.image.data[0])
    strokes = share((disks_2d.scribbles + 1).astype(np.uint8))

    def cancel(event):
        if event.current is not None and event.current >= 1:
            event.task.cancel()

    began = time.monotonic()
    out = str(tmp_path / "run")
    task = run(service, TRAIN, cancel, image=image, strokes=strokes, out=out, minutes=10.0)
    assert task.status == appose.service.TaskStatus.CANCELED
    assert time.monotonic() - began < 240
    assert not (tmp_path / "run" / "model.onnx").exists()
