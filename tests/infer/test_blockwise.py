"""Blockwise equals whole, whatever the block size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.bundle import open_model
from cellscribble.core.errors import FileFormatError, InputError, OutputError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer import blockwise
from cellscribble.infer.blockwise import predict_probability
from cellscribble.infer.runner import Runner
from cellscribble.segment.registry import get_segmenter
from tests.infer.analytic import disks, expected_object_probability, metadata, write_model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    out = {}
    for ndim in (2, 3):
        model = open_model(write_model(folder / f"{ndim}.onnx", metadata(ndim, 2)))
        out[ndim] = (model, Runner(model, "cpu", threads=1))
    return out


@settings(max_examples=40)
@given(data=st.data())
def test_any_block_size_gives_what_the_whole_gives(loaded, data):
    ndim = data.draw(st.sampled_from([2, 3]))
    model, runner = loaded[ndim]
    draw = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(ndim))  # noqa: E731
    shape, block = draw(4, 40 if ndim == 2 else 16), draw(1, 20)
    seed = data.draw(st.integers(0, 99))
    values = np.random.default_rng(seed).integers(0, 4000, (2, *shape)).astype(np.uint16)
    image = ImageVolume(values, model.metadata.axes)
    whole = predict_probability(image, model, runner, shape)
    parts = predict_probability(image, model, runner, block)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    segment = get_segmenter(model.metadata.segmenter)
    parameters = model.metadata.segmenter_parameters
    np.testing.assert_array_equal(segment(parts, parameters), segment(whole, parameters))


def test_probability_is_that_of_the_formula(loaded):
    model, runner = loaded[2]
    image = np.concatenate([disks(), disks()])
    out = predict_probability(ImageVolume(image, "CYX"), model, runner, (16, 16))
    np.testing.assert_allclose(out[1], expected_object_probability(image / 200), atol=1e-5)


def test_progress_counts_blocks_and_one_number_serves_all_axes(loaded):
    model, runner = loaded[2]
    image = ImageVolume(np.concatenate([disks(), disks()]), "CYX")
    seen = []
    predict_probability(image, model, runner, (32,), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("block", [(0, 8), (8, 8, 8), ()])
def test_an_impossible_block_is_refused(loaded, block):
    model, runner = loaded[2]
    image = ImageVolume(np.concatenate([disks(), disks()]), "CYX")
    with pytest.raises(InputError, match="one for each spatial axis"):
        predict_probability(image, model, runner, block)


def test_a_large_result_lies_in_a_file_and_is_the_same(loaded, monkeypatch):
    model, runner = loaded[2]
    image = ImageVolume(np.concatenate([disks(), disks()]), "CYX")
    small = predict_probability(image, model, runner)
    monkeypatch.setattr(blockwise, "MAX_BYTES_IN_MEMORY", 0)
    large = predict_probability(image, model, runner)
    assert isinstance(large, np.memmap)
    np.testing.assert_array_equal(large, small)


def test_too_little_temporary_room_says_which_variable_to_set():
    with pytest.raises(OutputError, match="TMPDIR"):
        blockwise.allocate((2, 1 << 30, 1 << 20))


class Lazy:
    """Counts what is read at once, and fails where a file would be damaged."""

    def __init__(self, data, bad_row=None):
        self.data, self.shape, self.dtype, self.bad_row = data, data.shape, data.dtype, bad_row
        self.largest = 0

    def __getitem__(self, key):
        out = self.data[key]
        if self.bad_row is not None and out.shape[1] <= self.bad_row:
            raise RuntimeError("zlib: invalid stored block")
        self.largest = max(self.largest, out.size)
        return out

    def __array__(self, dtype=None, copy=None):
        return self.data


def test_a_lazy_image_is_read_a_block_at_a_time(loaded):
    model, runner = loaded[2]
    data = np.concatenate([disks((128, 128))] * 2)
    lazy = Lazy(data)
    out = predict_probability(ImageVolume(lazy, "CYX"), model, runner, (16, 16))
    np.testing.assert_array_equal(out, predict_probability(ImageVolume(data, "CYX"), model, runner, (16, 16)))
    assert lazy.largest == 2 * 20 * 20


def test_damage_met_while_reading_names_the_image(loaded):
    model, runner = loaded[2]
    image = ImageVolume(Lazy(np.concatenate([disks(), disks()]), bad_row=20), "CYX", name="slide")
    with pytest.raises(FileFormatError, match=r"'slide' cannot be read .* copy it again"):
        predict_probability(image, model, runner, (16, 16))
