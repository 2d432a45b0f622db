"""Objects counted block by block are those of the whole image, and their features those of scikit-image."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import regionprops

from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.measure import blockwise, sorted_records
from cellscribble.measure.blockwise import sum_objects
from cellscribble.measure.features import feature_table
from cellscribble.measure.sums import Sums, merge, sum_block
from cellscribble.measure.whole import whole_object_table

SHAPES = [(37, 52), (1, 40), (9, 22, 18), (1, 8, 9)]


def make_labels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Blobs that touch, with holes, numbered with gaps, one in two pieces."""
    mask = ndimage.gaussian_filter(rng.random(shape), 1.1) > 0.5
    labels = ndimage.label(mask)[0]
    labels[rng.random(shape) < 0.03] = 0
    numbers = np.sort(rng.choice(5000, int(labels.max()) + 1, replace=False)) + 3
    numbers[0] = 0
    labels = numbers[labels]
    labels[labels == numbers[-1]] = numbers[len(numbers) // 2]
    return labels


def volume(labels: np.ndarray, image: np.ndarray | None = None) -> tuple[ImageVolume, ImageVolume | None]:
    axes = "CZYX" if labels.ndim == 3 else "CYX"
    return ImageVolume(labels[np.newaxis], axes), None if image is None else ImageVolume(image, axes)


def table(labels: ImageVolume, image: ImageVolume | None, block_px: tuple[int, ...]) -> dict[str, np.ndarray]:
    names = [] if image is None else [f"c{k}" for k in range(image.n_channels)]
    sums = counted(labels, image, block_px)
    whole = whole_object_table(labels, image, sums, names, 65535.0, block_px)
    return feature_table(sums, names, [65535.0] * len(names)) | whole


def counted(labels: ImageVolume, image: ImageVolume | None = None, block_px: tuple[int, ...] | None = None) -> Sums:
    return merge(list(sum_objects(labels, image, block_px=block_px)))


@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from(SHAPES), n_channels=st.integers(0, 2), data=st.data())
@settings(max_examples=40)
def test_nothing_depends_on_the_blocks(
    seed: int, shape: tuple[int, ...], n_channels: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 65536, (n_channels, *shape)).astype(np.uint16)
    labels, picture = volume(make_labels(rng, shape), image if n_channels else None)
    block_px = tuple(data.draw(st.integers(1 + n // 5, n + 3)) for n in shape)
    whole = counted(labels, picture, shape)
    with pytest.MonkeyPatch.context() as patch:
        for module in (blockwise, sorted_records):
            patch.setattr(module, "AT_ONCE", 5)
        patch.setattr(
            blockwise, "PIECE_PX", {len(shape): tuple(data.draw(st.integers(1 + n // 7, n + 3)) for n in shape)}
        )
        parts = counted(labels, picture, block_px)
    for field in fields(Sums):
        np.testing.assert_array_equal(getattr(parts, field.name), getattr(whole, field.name), err_msg=field.name)
    expected = table(labels, picture, shape)
    for name, values in table(labels, picture, block_px).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 1.0), (np.float64, 1e4), (np.uint32, 4e9)])
def test_sums_of_fractions_and_of_32_bits_are_rounded_only(rng, dtype, largest):
    labels = make_labels(rng, (60, 70))
    image = (rng.random((1, 60, 70)) * largest).astype(dtype)
    expected = table(*volume(labels, image), block_px=(60, 70))
    for block_px in ((7, 9), (16, 70), (33, 20)):
        for name, values in table(*volume(labels, image), block_px=block_px).items():
            scale = np.abs(expected[name][np.isfinite(expected[name])]).max(initial=1)
            np.testing.assert_allclose(values, expected[name], rtol=1e-7, atol=1e-7 * scale, err_msg=name)


def test_of_an_object_too_large_for_memory_only_what_needs_it_whole_is_nan(rng, monkeypatch):
    labels, image = np.zeros((40, 40), np.uint16), rng.integers(0, 9, (1, 40, 40)).astype(np.uint16)
    labels[2:38, 2:38], labels[5:9, 5:9] = 1, 2
    whole = table(*volume(labels, image), block_px=(16, 16))
    monkeypatch.setattr("cellscribble.measure.whole.MAX_BOX_PIXELS", 1000)
    for name, values in table(*volume(labels, image), block_px=(16, 16)).items():
        assert values[1] == whole[name][1], name
        needs_all = any(
            word in name for word in ("Radius", "Convex", "Solidity", "Feret", "Zernike", "Median", "Quartile")
        )
        assert np.isnan(values[0]) if needs_all or "MAD" in name else values[0] == whole[name][0], name


@pytest.mark.parametrize("shape", [(60, 70), (20, 30, 25)])
def test_features_are_those_of_scikit_image(rng, shape):
    labels = make_labels(rng, shape)
    image = rng.integers(0, 65536, (1, *shape)).astype(np.uint16)
    columns = table(*volume(labels, image), block_px=(16,) * len(shape))
    objects = regionprops(labels, image[0])
    assert columns["Number_Label"].tolist() == [o.label for o in objects]
    same = {
        "AreaShape_MajorAxisLength": [o.axis_major_length for o in objects],
        "AreaShape_EulerNumber": [o.euler_number for o in objects],
        "AreaShape_Extent": [o.extent for o in objects],
        "AreaShape_EquivalentDiameter": [o.equivalent_diameter_area for o in objects],
        "AreaShape_Center_X": [o.centroid[-1] for o in objects],
        "AreaShape_BoundingBoxMaximum_Y": [o.bbox[2 * len(shape) - 2] for o in objects],
        "Intensity_MeanIntensity_c0": [o.intensity_mean / 65535 for o in objects],
        "Intensity_StdIntensity_c0": [o.intensity_std / 65535 for o in objects],
        "Location_CenterMassIntensity_Y_c0": [o.centroid_weighted[-2] for o in objects],
        "Intensity_MinIntensity_c0": [o.intensity_min / 65535 for o in objects],
    }
    if len(shape) == 2:
        same |= {
            "AreaShape_Area": [o.area for o in objects],
            "AreaShape_Perimeter": [o.perimeter for o in objects],
            "AreaShape_Eccentricity": [o.eccentricity for o in objects],
            "AreaShape_Solidity": [o.solidity for o in objects],
        }
    for name, values in same.items():
        np.testing.assert_allclose(columns[name], values, atol=1e-6, err_msg=name)


def test_objects_far_from_the_origin_are_measured_as_well_as_near_ones():
    """Sums of squared coordinates pass 63 bits there and wrap round; seen from the object they are right."""
    y, x = np.indices((40, 60))
    labels = ((x - 25) ** 2 / 300 + (y - 2 * x / 3) ** 2 / 90 < 1).astype(np.uint16)
    image = np.full((1, 40, 60), 9, np.uint16)
    tables = []
    for start in ((0, 0), (3_000_000_000, 2_500_000_001)):
        sums = merge([sum_block(labels, image, start, ((0, 0), (0, 0)))])
        tables.append(feature_table(sums, ["DNA"], [65535.0]))
    for name in ("MajorAxisLength", "MinorAxisLength", "Eccentricity", "Orientation", "Perimeter"):
        assert tables[0][f"AreaShape_{name}"] == tables[1][f"AreaShape_{name}"]
    assert tables[1]["AreaShape_Center_X"] - tables[0]["AreaShape_Center_X"] == 2_500_000_001


def test_numbers_of_a_disk_and_a_square_worked_by_hand():
    labels = np.zeros((8, 9), np.uint16)
    labels[2:6, 3:7] = 5
    image = np.zeros((1, 8, 9), np.uint8)
    image[0, 2:6, 3:7] = 51
    image[0, 4, 5] = 255
    columns = table(*volume(labels, image), block_px=(3, 4))
    found = {name: values.tolist() for name, values in columns.items()}
    assert found["Number_Label"] == [5]
    assert found["AreaShape_Area"] == [16]
    assert found["AreaShape_Perimeter"] == [12]
    assert found["AreaShape_Center_X"] == [4.5]
    # Of 4 x 4 pixels the variance is 5/4 along both axes, and an ellipse's axis is 4 standard deviations long.
    assert found["AreaShape_MajorAxisLength"] == [pytest.approx(4 * 1.25**0.5)]
    assert found["AreaShape_Eccentricity"] == [0]
    assert found["AreaShape_MaximumRadius"] == [2]
    assert found["AreaShape_MaxFeretDiameter"] == [pytest.approx(18**0.5)]
    assert found["AreaShape_MinFeretDiameter"] == [3]
    assert found["Location_MaxIntensity_X_c0"] == [5]
    assert found["Intensity_IntegratedIntensity_c0"] == [pytest.approx((15 * 51 + 255) / 65535)]
    assert found["Intensity_IntegratedIntensityEdge_c0"] == [pytest.approx(12 * 51 / 65535)]


def test_an_image_without_objects_has_a_table_without_lines():
    columns = table(*volume(np.zeros((6, 7), np.uint8), np.ones((2, 6, 7), np.uint8)), block_px=(4, 4))
    assert all(len(values) == 0 for values in columns.values())
    assert "Intensity_MeanIntensity_c1" in columns


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((4, 4), 0.5), "holds fractions"),
        (np.full((4, 4), np.nan), "holds fractions"),
        (np.full((4, 4), -1, np.int16), "goes down to -1"),
        (np.full((4, 4), -2, np.float32), "goes down to -2"),
    ],
)
def test_what_is_no_label_image_is_refused(values, words):
    with pytest.raises(InputError, match=words):
        counted(*volume(values))


def test_whole_numbers_stored_as_float_are_labels():
    """Fiji has no 32-bit integers."""
    assert counted(*volume(np.full((4, 4), 70000, np.float32))).ids.tolist() == [70000]


def test_another_image_than_that_of_the_labels_is_refused():
    labels, image = volume(np.ones((4, 4), np.uint8), np.ones((1, 4, 5), np.uint8))
    with pytest.raises(InputError, match="the image that was segmented"):
        counted(labels, image)
    with pytest.raises(InputError, match="has 2 channels"):
        counted(ImageVolume(np.ones((2, 4, 4), np.uint8), "CYX"))
