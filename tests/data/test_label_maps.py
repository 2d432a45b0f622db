import numpy as np
import torch

from cellscribble.data.label_maps import from_maps, labels_of, to_maps


def test_maps_hold_the_labels():
    labels = np.array([[0, 1, -1], [2, 2, 0]], np.int16)
    maps = to_maps(labels, 3)
    assert maps.shape == (3, 2, 3)
    assert maps[:, 0, 2].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(labels_of(maps), labels)


def test_between_pixels_the_majority_wins_and_strokes_have_no_label_of_the_maps():
    # Shares of (background, cell): sure, cell by a majority, a tie, half unlabelled, stroked.
    maps = torch.tensor([[1.0, 0.4, 0.5, 0.3, 1.0], [0.0, 0.6, 0.5, 0.2, 0.0]]).reshape(1, 2, 1, 5)
    strokes = torch.tensor([[[-1, -1, -1, -1, 1]]])
    assert from_maps(maps, strokes).tolist() == [[[0, 1, -1, -1, -1]]]
