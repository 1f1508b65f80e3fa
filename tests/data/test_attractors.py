"""Random fractals: their systems, the points of their attractors, and pictures of these."""

import math

import numpy as np
import pytest

from lib.data.attractors import (
    System,
    bits_of,
    contractive,
    degenerate,
    draw_category,
    draw_view,
    find_system,
    levels,
    play,
    random_system,
    turn_of,
)


def test_maps_are_contractive():
    drawn = np.random.default_rng(1).uniform(-1, 1, (5000, 3, 4))
    norms = np.linalg.norm(drawn[:, :, :3], 2, axis=(1, 2))
    np.testing.assert_array_equal(contractive(drawn), norms < 1)
    counts = set()
    for category in range(100):
        system = random_system(bits_of(1, category))
        assert np.linalg.norm(system.maps[:, :, :3].astype("float64"), 2, axis=(1, 2)).max() < 1
        assert system.chances.sum() == 65536 and len(system.chances) == len(system.maps)
        volumes = abs(np.linalg.det(system.maps[:, :, :3].astype("float64")))
        np.testing.assert_allclose(system.chances / 65536, volumes / volumes.sum(), atol=2**-16)
        counts.add(len(system.maps))
    assert counts == set(range(2, 8))


def halving(corners, chances=None):
    """The system of maps half way to some corners."""
    maps = np.zeros((len(corners), 3, 4), "float32")
    maps[:, range(3), range(3)] = 0.5
    maps[:, :, 3] = np.array(corners) / 2
    return System(maps, np.array(chances or [65536 // len(corners)] * len(corners)))


TETRAHEDRON = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))


def test_the_chaos_game_stays_on_the_attractor_and_goes_everywhere():
    system = halving(TETRAHEDRON, [32768, 16384, 8192, 8192])
    points = play(system, bits_of(1, 0))
    assert points.shape == (3, 10240) and points.dtype == np.float32
    x, y, z = (points * 64).astype("int64")
    assert not ((x & y) | (x & z) | (y & z)).any()  # in binary no two coordinates of Sierpinski's tetrahedron share a 1
    assert len(np.unique((x * 64 + y) * 64 + z)) > 1000  # of the 4 ** 6 that there are
    np.testing.assert_allclose((points >= 0.5).mean(axis=1), [0.25, 0.125, 0.125], atol=0.02)
    further = play(system, bits_of(1, 1), 3, points[:, -256:])
    assert further.shape == (3, 768)
    x, y, z = (further * 64).astype("int64")
    assert not ((x & y) | (x & z) | (y & z)).any()


def test_degenerate_systems_are_dropped():
    def is_degenerate(corners):
        return degenerate(levels(play(halving(corners), bits_of(1, 0))))

    assert not is_degenerate([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])  # a cube
    assert is_degenerate([(1, 2, 3)] * 3)  # a point
    assert is_degenerate([(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)])  # a square, which an axis doesn't see
    assert is_degenerate([(0, 0, 0), (1, 1, 1)])  # a line that all axes see
    flat = np.random.default_rng(1).integers(0, 65536, (3, 10240))
    assert not degenerate(flat)
    # A uniform number of 0 to w · 65,535 has the variance w² / 3 where the whole span is 2.
    for width, expected in ((0.40, False), (0.38, True)):
        flat[1] = np.linspace(0, width * 65535, 10240)
        assert degenerate(flat) == expected


def test_a_category_has_the_first_system_that_is_not_degenerate():
    dropped = 0
    for category in range(12):
        bits = bits_of(4, category)
        system, points = find_system(4, category)
        while True:
            candidate = random_system(bits)
            cloud = play(candidate, bits)
            if not degenerate(levels(cloud)):
                break
            dropped += 1
        np.testing.assert_array_equal(candidate.maps, system.maps)
        np.testing.assert_array_equal(cloud, points)
    assert dropped > 5


def test_views_are_all_different_and_the_first_go_round():
    turns = [turn_of(view) for view in range(1001)]
    degrees = [math.degrees(math.atan2(sine, cosine)) % 360 for cosine, sine in turns]
    np.testing.assert_allclose(degrees[:12], np.arange(0, 360, 30), atol=1e-9)
    np.testing.assert_allclose(degrees[12:24], np.arange(15, 360, 30), atol=1e-9)
    np.testing.assert_allclose(sorted(degrees[:96]), np.arange(0, 360, 3.75), atol=1e-9)
    assert np.diff(np.sort(degrees)).min() > 0.2
    np.testing.assert_allclose([math.hypot(*turn) for turn in turns], 1, atol=1e-12)


def test_a_point_is_drawn_where_it_is_seen():
    points = np.zeros((3, 3000), "int64") + 32768
    points[:, :1000] = [[65535], [32768], [32768]]  # right
    points[:, 1000:2000] = [[0], [32768], [32768]]  # left
    points[:, 2000:2500] = [[32768], [65535], [32768]]  # top
    points[:, 2500:] = [[32768], [0], [32768]]  # bottom
    _assert_seen(draw_view(points, (1.0, 0.0), 224), [(8, 112), (112, 8), (112, 215), (215, 112)])
    # By a quarter: right is in front now, and left behind.
    _assert_seen(draw_view(points, (0.0, 1.0), 224), [(8, 112), (112, 112), (215, 112)])


def _assert_seen(picture, expected):
    lit = np.argwhere(picture[:, :, 0])
    assert len(lit) == len(expected)
    assert all(abs(lit - place).max(axis=1).min() <= 1 for place in expected), lit


@pytest.mark.parametrize("size", [16, 32, 96, 224, 300])
def test_pictures_fill_the_frame_at_every_size(size):
    for category in range(6):
        for picture in draw_category(2, category, (0, 1), size):
            assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
            assert picture.max() == 255 and picture[0, 0].tolist() == picture[0, 0, :1].tolist() * 3
            lit = picture[:, :, 0] > 0
            assert 0.01 < lit.mean() < 0.9
            spans = [np.flatnonzero(lit.any(axis=axis)) for axis in (0, 1)]
            assert max(span[-1] - span[0] + 1 for span in spans) > 0.85 * size
            assert all(abs(span[0] + span[-1] + 1 - size) < 0.3 * size for span in spans)


def test_shapes_are_the_same_at_every_size():
    for category in range(4):
        large, small = (draw_category(2, category, [0], size)[0][:, :, 0].astype("float64") for size in (224, 32))
        shrunk = large.reshape(32, 7, 32, 7).mean(axis=(1, 3))
        np.testing.assert_allclose(small, shrunk * 255 / shrunk.max(), atol=0.51)


def test_two_views_of_a_category_are_more_alike_than_those_of_two():
    def looks(view):
        small = [draw_category(5, category, [view], 32)[0][:, :, 0] for category in range(50)]
        small = np.array(small, "float64").reshape(50, 16, 2, 16, 2).mean(axis=(2, 4)).reshape(50, -1)
        small -= small.mean(axis=1, keepdims=True)
        return small / np.linalg.norm(small, axis=1, keepdims=True)

    nearest = (looks(0) @ looks(1).T).argmax(axis=1)
    assert (nearest == np.arange(50)).mean() > 0.4  # by chance 0.02
