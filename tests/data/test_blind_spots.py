import numpy as np
import pytest
import torch

from cellscribble.data.blind_spots import draw_blind_spots

SHAPES = [(2, 32, 40), (2, 8, 32, 40)]


def places(flat: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    return np.array(np.unravel_index(flat.numpy(), shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbours_are_near_in_the_same_section_and_never_the_pixel_itself(shape, rng):
    spots = draw_blind_spots(shape, 0.5, 5, rng)
    assert len(spots.hidden) == len(set(spots.hidden.tolist())) == np.prod(shape) // 2
    here, there = places(spots.hidden, shape), places(spots.neighbours, shape)
    away = np.abs(there - here)
    assert (away[:-2] == 0).all()
    assert away[-2:].max() == 5
    assert away[-2:].max(axis=0).min() == 1
    np.testing.assert_array_equal(spots.patch.numpy(), here[0])


def test_every_neighbour_of_a_pixel_is_as_likely_as_another(rng):
    spots = draw_blind_spots((200, 32, 32), 0.5, 1, rng)
    here, there = places(spots.hidden, spots.shape), places(spots.neighbours, spots.shape)
    inner = ((here[1:] > 0) & (here[1:] < 31)).all(axis=0)
    steps, counts = np.unique((there - here)[1:, inner], axis=1, return_counts=True)
    assert steps.shape[1] == 8
    np.testing.assert_allclose(counts / counts.mean(), 1, atol=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_channels_of_hidden_pixels_are_their_neighbours_and_others_stay(shape, rng):
    image = torch.rand(shape[0], 3, *shape[1:])
    before = image.clone()
    spots = draw_blind_spots(shape, 0.05, 5, rng)
    seen = spots.hide(image)
    assert torch.equal(image, before)
    assert seen.shape == image.shape
    at = places(spots.hidden, shape)
    source = places(spots.neighbours, shape)
    assert torch.equal(seen.movedim(1, -1)[tuple(at)], image.movedim(1, -1)[tuple(source)])
    changed = (seen != image).any(dim=1)
    assert int(changed.sum()) == len(spots.hidden) == round(0.05 * np.prod(shape))
    assert changed[tuple(at)].all()


@pytest.mark.parametrize("shape", SHAPES)
def test_values_at_hidden_pixels(shape, rng):
    spots = draw_blind_spots(shape, 0.01, 5, rng)
    maps = torch.rand(shape[0], 2, 3, *shape[1:])
    found = spots.at_hidden(maps)
    assert found.shape == (len(spots.hidden), 2, 3)
    for row, index in enumerate(places(spots.hidden, shape).T[:5]):
        assert torch.equal(found[row], maps[(int(index[0]), slice(None), slice(None), *map(int, index[1:]))])


def test_the_same_seed_hides_the_same_pixels():
    one, two, other = (draw_blind_spots((1, 32, 32), 0.1, 5, np.random.default_rng(s)) for s in (3, 3, 4))
    assert torch.equal(one.hidden, two.hidden)
    assert torch.equal(one.neighbours, two.neighbours)
    assert not torch.equal(one.hidden, other.hidden)
