import json

import numpy as np
import onnx
import pytest
from onnx import helper

from cellscribble.bundle import SCHEMA, ModelMetadata, open_model, read_metadata
from cellscribble.core.errors import ModelError
from tests.infer.analytic import metadata, write_model


def test_metadata_survives_the_file(tmp_path):
    meta = metadata(
        3,
        2,
        pixel_size_um=(0.5, 0.1, 0.1),
        edge_threshold=0.85,
        config={"lr": 1e-3, "crop": [256, 256]},
        seed=7,
        holdout={"iou": 0.8, "low": 0.7, "high": 0.9},
        citation="Lee & Jeong 2020 µ",
    )
    model = open_model(write_model(tmp_path / "model.onnx", meta))
    assert model.metadata == meta
    assert len(model.sha256) == 64


def test_onnx_runtime_reads_the_same_text(tmp_path):
    import onnxruntime

    path = write_model(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["cellscribble"] == metadata().to_json()


def test_numpy_numbers_and_nan_become_plain_json():
    meta = metadata(config={"a": np.float32(0.5), "b": (1, 2)}, holdout={"iou": float("nan")})
    found = json.loads(meta.to_json())
    assert found["config"] == {"a": 0.5, "b": [1, 2]}
    assert found["holdout"] == {"iou": None}


def test_only_a_model_that_is_not_float_says_so():
    assert "precision" not in json.loads(metadata().to_json())  # older versions read it
    meta = metadata(precision="int8")
    assert ModelMetadata.from_json(meta.to_json()) == meta
    assert ModelMetadata.from_json(metadata().to_json()).precision == "float32"


def test_another_schema_names_both(tmp_path):
    text = json.dumps(json.loads(metadata().to_json()) | {"schema": 99, "new": 1})
    path = write_model(tmp_path / "model.onnx", text=text)
    with pytest.raises(ModelError, match=f"schema 99 .* reads schema {SCHEMA}; update"):
        read_metadata(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"halo_px": None}, "cannot be read"),
        ({"surprise": 1}, r"unknown keys \['surprise'\]"),
        ({"classes": ["background"]}, "at least one class"),
        ({"axes": "XY"}, "axes are 'XY'"),
        ({"stride_multiple": [2]}, "need 2 values"),
        ({"intensity": {"kind": "magic"}}, "intensity kind"),
        ({"channels": []}, "no channels"),
        ({"precision": "int4"}, "precision is 'int4'; expected 'float32' or 'int8'"),
        ({"stride_multiple": [0, 2]}, "impossible"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(change, message):
    text = json.dumps(json.loads(metadata().to_json()) | change)
    with pytest.raises(ModelError, match=message):
        ModelMetadata.from_json(text)


def test_a_missing_key_is_named():
    found = json.loads(metadata().to_json())
    del found["halo_px"]
    with pytest.raises(ModelError, match=r"lacks \['halo_px'\]"):
        ModelMetadata.from_json(json.dumps(found))


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_metadata_that_is_no_json_object_is_refused(tmp_path, text):
    with pytest.raises(ModelError, match="export the model again"):
        read_metadata(write_model(tmp_path / "model.onnx", text=text))


def test_an_onnx_file_of_someone_else_is_refused(tmp_path):
    path = write_model(tmp_path / "model.onnx", text="")
    with pytest.raises(ModelError, match="without CellScribble metadata"):
        open_model(path)


@pytest.mark.parametrize("content", [b"", b"II*\x00 a tiff", b"\x89PNG\r\n\x1a\n", b"hello", b"\xff" * 99])
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"not an ONNX model or is truncated .* copy it again"):
        open_model(path)


def test_every_truncation_is_noticed(tmp_path):
    whole = write_model(tmp_path / "whole.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    for size in range(0, len(whole), 7):
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"copy it again|without CellScribble metadata"):
            read_metadata(cut)


def test_metadata_before_the_network_is_found_too(tmp_path):
    """Protobuf promises no order of fields."""
    props = onnx.ModelProto()
    helper.set_model_props(props, {"cellscribble": metadata().to_json()})
    bare = write_model(tmp_path / "bare.onnx", text="").read_bytes()
    (tmp_path / "model.onnx").write_bytes(props.SerializeToString() + bare)
    assert read_metadata(tmp_path / "model.onnx") == metadata()


def test_a_missing_file_and_a_folder_are_no_models(tmp_path):
    for path in (tmp_path / "no.onnx", tmp_path):
        with pytest.raises(ModelError, match="no model file"):
            open_model(path)
