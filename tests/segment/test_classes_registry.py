import numpy as np
import pytest

from cellscribble.core.errors import InputError
from cellscribble.segment.registry import SEGMENTERS, get_segmenter


def test_each_pixel_takes_its_most_probable_class_and_background_wins_a_tie() -> None:
    probability = np.array([[0.2, 0.5, 0.1], [0.7, 0.5, 0.3], [0.1, 0.0, 0.6]])
    labels = get_segmenter("classes")(probability, {})
    assert labels.tolist() == [1, 0, 2]
    assert labels.dtype == np.uint16


def test_classes_refuse_settings() -> None:
    with pytest.raises(InputError, match=r"no settings, but \['threshold'\]"):
        get_segmenter("classes")(np.zeros((2, 3)), {"threshold": 0.5})


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_gives_background_for_background(name: str) -> None:
    probability = np.zeros((2, 6, 6), np.float32)
    probability[0] = 1
    assert not get_segmenter(name)(probability, {}).any()


def test_an_unknown_segmenter_is_named_with_those_that_exist() -> None:
    with pytest.raises(InputError, match="no segmenter 'graphcut'; expected one of classes, instances"):
        get_segmenter("graphcut")
