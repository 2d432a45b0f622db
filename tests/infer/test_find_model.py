import os

import pytest

from cellscribble.core.errors import ModelError
from cellscribble.infer import find_model as module
from cellscribble.infer.find_model import find_model, find_runs


def make_run(folder, seconds, *, config=True):
    folder.mkdir(parents=True)
    model = folder / "model.onnx"
    model.write_bytes(b"")
    os.utime(model, (seconds, seconds))
    if config:
        (folder / "config.json").write_text("{}")
    return model


def test_the_newest_run_below_is_taken(tmp_path):
    make_run(tmp_path / "runs" / "old", 1000)
    new = make_run(tmp_path / "deep" / "er" / "runs" / "new", 2000)
    make_run(tmp_path / "no_run", 3000, config=False)
    make_run(tmp_path / ".hidden" / "run", 3000)
    make_run(tmp_path / "slide.zarr" / "0", 3000)
    assert find_model(None, tmp_path) == new.resolve()


def test_the_current_folder_may_be_a_run_itself(tmp_path):
    model = make_run(tmp_path / "run", 1000)
    assert find_model(None, model.parent) == model.resolve()


def test_a_choice_is_a_file_a_run_a_folder_of_runs_or_a_shipped_name(tmp_path, monkeypatch):
    model = make_run(tmp_path / "runs" / "a", 1000, config=False)
    newer = make_run(tmp_path / "more" / "b", 2000)
    assert find_model(model) == model
    assert find_model(model.parent) == model
    assert find_model(tmp_path / "more") == newer.resolve()
    monkeypatch.setattr(module, "shipped_models", lambda: {"nuclei": model})
    assert find_model("nuclei") == model


def test_without_any_run_the_shipped_models_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "shipped_models", lambda: {"nuclei": tmp_path, "em": tmp_path})
    with pytest.raises(ModelError, match=r"no run .* nuclei, em\. Take one with -m NAME"):
        find_model(None, tmp_path)


def test_without_any_model_at_all_training_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "shipped_models", dict)
    with pytest.raises(ModelError, match="cellscribble train IMAGES SCRIBBLES"):
        find_model(None, tmp_path)


def test_a_wrong_choice_says_what_was_looked_for(tmp_path):
    with pytest.raises(ModelError, match="no model file, run folder or shipped model 'nope'"):
        find_model("nope")
    with pytest.raises(ModelError, match=r"holds no model\.onnx; has training ended"):
        find_model(tmp_path)


def test_runs_are_sorted_newest_first(tmp_path):
    for name, seconds in (("a", 5), ("b", 9), ("c", 7)):
        make_run(tmp_path / name, seconds)
    assert [run.name for run in find_runs(tmp_path)] == ["b", "c", "a"]
