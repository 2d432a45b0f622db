import numpy as np
import onnxruntime
import pytest

from cellscribble.bundle import open_model
from cellscribble.core.errors import InputError, ModelError
from cellscribble.infer import runner as runner_module
from cellscribble.infer.runner import CPU, Runner, cuda_device_present
from tests.infer.analytic import expected_object_probability, metadata, write_model


@pytest.mark.parametrize(("ndim", "shape"), [(2, (3, 20, 34)), (3, (2, 8, 12, 10))])
def test_probability_is_the_networks_and_sums_to_one(tmp_path, rng, ndim, shape):
    meta = metadata(ndim, shape[0])
    run = Runner(open_model(write_model(tmp_path / "model.onnx", meta)), "cpu")
    block = rng.random(shape, np.float32)
    out = run(block)
    assert run.provider == CPU
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(out[1], expected_object_probability(block), atol=1e-5)


def test_auto_runs_quietly_on_the_cpu_where_there_is_no_device(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not cuda_device_present()
    run = Runner(open_model(write_model(tmp_path / "model.onnx")), "auto", threads=1)
    assert (run.provider, run.note) == (CPU, "")
    assert capfd.readouterr() == ("", "")


def test_cuda_that_does_not_work_is_an_error_with_the_remedy(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(runner_module, "CUDA", "NoSuchExecutionProvider")
    with pytest.raises(InputError, match="--device cpu"):
        Runner(open_model(write_model(tmp_path / "model.onnx")), "cuda")


def test_auto_says_why_a_device_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "CUDA", "NoSuchExecutionProvider")
    monkeypatch.setattr(runner_module, "cuda_device_present", lambda: True)
    run = Runner(open_model(write_model(tmp_path / "model.onnx")), "auto")
    assert run.provider == CPU
    assert "doctor" in run.note


def test_an_int8_model_on_a_cuda_device_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "CUDA", CPU)
    monkeypatch.setattr(runner_module, "cuda_device_present", lambda: False)
    assert not Runner(open_model(write_model(tmp_path / "float.onnx")), "auto").note
    int8 = open_model(write_model(tmp_path / "int8.onnx", metadata(precision="int8")))
    assert "take the float model" in Runner(int8, "auto").note


@pytest.mark.skipif(cuda_device_present(), reason="there is a CUDA device")
def test_a_failing_cuda_start_prints_nothing(tmp_path, capfd):
    with pytest.raises(InputError, match="CUDA was asked for"):
        Runner(open_model(write_model(tmp_path / "model.onnx")), "cuda")
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
@pytest.mark.skipif(not cuda_device_present(), reason="no CUDA device")
def test_cuda_and_cpu_agree(tmp_path, rng):
    model = open_model(write_model(tmp_path / "model.onnx"))
    block = rng.random((1, 64, 64), np.float32)
    np.testing.assert_allclose(Runner(model, "cuda")(block), Runner(model, "cpu")(block), atol=1e-4)


def test_an_unknown_device_lists_the_known():
    with pytest.raises(InputError, match="auto, cpu, cuda"):
        Runner(None, "tpu")


def test_a_damaged_network_is_a_model_error(tmp_path):
    path = write_model(tmp_path / "model.onnx")
    data = path.read_bytes()
    at = data.index(b"ConvTranspose")
    path.write_bytes(data[:at] + b"XonvTranspose" + data[at + 13 :])
    with pytest.raises(ModelError, match=f"ONNX Runtime {onnxruntime.__version__} cannot load"):
        Runner(open_model(path), "cpu")


def test_a_network_of_another_rank_breaks_the_contract(tmp_path):
    path = write_model(tmp_path / "model.onnx", metadata(2), text=metadata(3).to_json())
    with pytest.raises(ModelError, match="'image' and 'probability' of 5 axes"):
        Runner(open_model(path), "cpu")


def test_a_network_with_other_classes_than_its_metadata_is_refused(tmp_path):
    three = metadata(classes=("background", "a", "b"), colors=((0, 0, 0),) * 3)
    path = write_model(tmp_path / "model.onnx", metadata(), text=three.to_json())
    with pytest.raises(ModelError, match="export the model again"):
        Runner(open_model(path), "cpu")(np.zeros((1, 8, 8), np.float32))


def test_a_block_the_network_cannot_take_suggests_a_smaller_one(tmp_path):
    run = Runner(open_model(write_model(tmp_path / "model.onnx")), "cpu")
    with pytest.raises(ModelError, match="smaller --block"):
        run(np.zeros((4, 8, 8), np.float32))
