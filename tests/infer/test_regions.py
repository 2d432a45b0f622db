import numpy as np
import pytest

from cellscribble.infer.regions import KEPT, Boxes, boxes_of_block, choose, joined


def doubtful(shape, *places):
    """Probability (2, *shape), sure background but for what is drawn: (window, p)."""
    p = np.zeros((2, *shape), np.float32)
    for window, value in places:
        p[(1, *window)] = value
    p[0] = 1 - p[1]
    return p


def boxes_of(probability, box_px, corner=None, image=0):
    """As a block in the middle of a large image."""
    ndim = probability.ndim - 1
    corner = corner or (1000,) * ndim
    pixels = np.zeros((1, *probability.shape[1:]), np.float32)
    return boxes_of_block(pixels, probability, corner, (9000,) * ndim, box_px, image)


def boxes_at(corners, scores, looks=None, image=None, side=10):
    corner = np.array(corners)
    look = np.zeros((len(corner), 1)) if looks is None else np.array(looks, float).reshape(len(corner), -1)
    number = np.zeros(len(corner), int) if image is None else np.array(image)
    return Boxes(
        corner, np.full(corner.shape, side), np.array(scores, float), look, np.zeros(len(corner), int), number
    )


def test_the_score_is_the_mean_doubt_and_places_count_from_the_image():
    p = doubtful((40, 60), (np.s_[0:20, 40:60], 0.5))
    found = boxes_of(p, (20, 20), (100, 200), 3)
    best = found.score.argmax()
    assert found.score[best] == pytest.approx(1)
    assert found.corner[best].tolist() == [100, 240]
    assert (found.score > 0).all()
    assert set(found.image) == {3}
    # Half a side from it half the doubt is left.
    assert found.score[(found.corner == (110, 240)).all(axis=1)] == pytest.approx(0.5)


def test_the_doubt_of_an_edge_does_not_count():
    """Lines of 3 px at p 0.5 run around every cell; a cell that is half believed is another thing."""
    edge = doubtful((40, 40), (np.s_[10:30, 10:13], 0.5))
    cell = doubtful((40, 40), (np.s_[10:17, 10:17], 0.5))
    assert len(boxes_of(edge, (20, 20))) == 0
    assert len(boxes_of(cell, (20, 20))) > 0


def test_much_doubt_in_a_cell_outweighs_a_little_everywhere():
    p = doubtful((40, 80), (np.s_[:, :40], 0.15), (np.s_[10:20, 50:60], 0.5))
    found = boxes_of(p, (20, 20))
    assert found.corner[found.score.argmax(), 1] >= 1040


def test_the_doubt_beside_the_image_s_border_does_not_count():
    """There the network sees mirrored pixels; how wide depends on the image's size, not on the block."""
    p = doubtful((256, 256), (np.s_[0:40, :], 0.5))
    pixels = np.zeros((1, 256, 256), np.float32)
    at_border = boxes_of_block(pixels, p, (0, 0), (2000, 2000), (20, 20), 0)
    assert at_border.score.max() == pytest.approx(8 / 20, abs=0.01)
    assert boxes_of_block(pixels, p, (1000, 0), (2000, 2000), (20, 20), 0).score.max() == pytest.approx(1)


def test_where_the_model_is_sure_there_is_no_box():
    p = doubtful((40, 40), (np.s_[:, :20], 1.0))
    assert len(boxes_of(p, (20, 20))) == 0


def test_of_a_stack_the_least_sure_plane_is_told():
    p = doubtful((12, 30, 30), (np.s_[5, 10:20, 10:20], 0.5), (np.s_[4, 10:20, 10:20], 0.1))
    found = boxes_of(p, (6, 20, 20), (100, 1000, 1000))
    assert set(found.plane[found.score > 0.9 * found.score.max()]) == {105}


def test_of_a_block_the_least_sure_are_kept(rng):
    p = doubtful((300, 300), (np.s_[:, :], 0.4), (np.s_[100:120, 100:120], 0.5))
    found = boxes_of(p, (8, 8))
    assert len(found) == KEPT
    assert found.score.max() == pytest.approx(1)


def test_boxes_never_overlap_and_the_least_sure_comes_first():
    found = choose(boxes_at([(0, 0), (5, 5), (0, 10), (40, 40)], [0.8, 0.9, 0.7, 0.1]), 4)
    assert found.corner.tolist() == [[5, 5], [40, 40]]


def test_of_equal_doubt_the_one_that_looks_new_comes_next():
    boxes = boxes_at([(0, 0), (500, 0), (0, 500)], [0.9, 0.8, 0.8], looks=[0, 0, 1])
    assert choose(boxes, 2).corner.tolist() == [[0, 0], [0, 500]]


def test_of_equal_doubt_and_look_the_one_far_away_comes_next():
    boxes = boxes_at([(0, 0), (0, 12), (0, 200)], [0.9, 0.8, 0.8])
    assert choose(boxes, 3).corner.tolist() == [[0, 0], [0, 200], [0, 12]]


def test_the_same_place_in_another_image_is_no_overlap():
    boxes = boxes_at([(0, 0), (0, 0)], [0.9, 0.8], image=[0, 1])
    assert choose(boxes, 5).image.tolist() == [0, 1]


def test_tables_are_joined_and_shortened_in_their_order():
    both = joined([boxes_at([(0, 0), (1, 1)], [0.1, 0.3]), boxes_at([(2, 2)], [0.2])])
    assert both.least_sure(2).corner.tolist() == [[1, 1], [2, 2]]


def test_where_the_average_of_training_disagrees_there_is_doubt_though_the_network_is_sure():
    p = doubtful((40, 60), (np.s_[0:20, 0:20], 1.0))
    average = np.rint(255 * p[1:]).astype(np.uint8)
    assert len(boxes_of(p, (20, 20))) == 0
    pixels = np.zeros((1, 40, 60), np.float32)
    same = boxes_of_block(pixels, p, (1000, 1000), (9000, 9000), (20, 20), 0, average)
    assert len(same) == 0
    average[0, 20:40, 40:60] = 255
    found = boxes_of_block(pixels, p, (1000, 1000), (9000, 9000), (20, 20), 0, average)
    assert found.corner[found.score.argmax()].tolist() == [1020, 1040]
    assert found.score.max() == pytest.approx(1)


def test_of_three_classes_the_disagreement_is_that_of_all():
    """Sure to be A now, mostly background on average: the share that changed sides."""
    p = np.zeros((3, 20, 20), np.float32)
    p[1] = 1
    average = np.zeros((2, 20, 20), np.uint8)
    average[0] = average[1] = 51
    found = boxes_of_block(np.zeros((1, 20, 20), np.float32), p, (1000, 1000), (9000, 9000), (20, 20), 0, average)
    # |0 - .6| + |1 - .2| + |0 - .2| = 1.6, half of it .8, squared.
    assert found.score.tolist() == pytest.approx([0.64])
