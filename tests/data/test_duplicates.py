"""Near-duplicates: hashes, and groups of them."""

import numpy as np
import pytest
from PIL import Image

from lib.data import duplicates
from lib.data.duplicates import difference_hash, group_alike, join, near_groups


def brute_force(hashes, bits):
    roots = list(range(len(hashes)))

    def root(index):
        while roots[index] != index:
            index = roots[index]
        return index

    for index in range(len(hashes)):
        for other in range(index):
            if bin(int(hashes[index]) ^ int(hashes[other])).count("1") <= bits:
                one, two = sorted((root(index), root(other)))
                roots[two] = one
    return [root(index) for index in range(len(hashes))]


def as_lowest(groups):
    first = {}
    return [first.setdefault(group, index) for index, group in enumerate(np.asarray(groups).tolist())]


def near_and_far(rng, count=30, most=13):
    """Random hashes, and each with 1 to `most` bits changed."""
    base = rng.integers(0, 1 << 63, count, dtype="uint64")
    made = [base]
    for changed in range(1, most):
        masks = [sum(1 << int(bit) for bit in rng.choice(64, changed, replace=False)) for _ in range(count)]
        made.append(base ^ np.array(masks, "uint64"))
    return rng.permutation(np.concatenate([*made, base[:5]]))


@pytest.mark.parametrize("bits", [0, 1, 4, 7, 10])
def test_groups_are_those_of_comparing_all_pairs(bits):
    hashes = near_and_far(np.random.default_rng(bits))
    assert as_lowest(near_groups(hashes, bits)) == as_lowest(brute_force(hashes, bits))


def test_groups_of_similar_hashes_are_right_where_most_are_near():
    rng = np.random.default_rng(3)
    hashes = np.packbits(rng.random((400, 64)) < 0.06, axis=1).view("uint64")[:, 0]
    assert as_lowest(near_groups(hashes, 4)) == as_lowest(brute_force(hashes, 4))


def test_no_and_one_hash():
    assert near_groups(np.empty(0, "uint64"), 4).tolist() == []
    assert near_groups(np.array([7], "uint64"), 4).tolist() == [0]


def test_joining_follows_chains_and_former_groups():
    groups = np.arange(6)
    assert join(groups, np.array([[4, 5], [3, 4], [1, 2]])).tolist() == [0, 1, 1, 3, 3, 3]
    assert join(np.array([0, 1, 1, 3, 3, 3]), np.array([[2, 5]])).tolist() == [0, 1, 1, 1, 1, 1]
    assert join(groups, np.empty((0, 2), "int64")).tolist() == list(range(6))


def test_a_hash_says_where_it_becomes_brighter():
    assert difference_hash(np.full((96, 96, 3), 9, "uint8")) == 0
    brighter = np.repeat(np.linspace(0, 255, 90).astype("uint8")[None, :, None], 90, axis=0).repeat(3, axis=2)
    assert difference_hash(brighter) == (1 << 64) - 1
    top = brighter.copy()
    top[45:] = 0
    assert difference_hash(top) == ((1 << 64) - 1) ^ ((1 << 32) - 1)


def test_a_hash_hardly_changes_when_a_picture_is_resized_or_compressed_and_does_when_it_is_another():
    from io import BytesIO

    from tools.sample import draw

    one, other = (draw(label, np.random.default_rng(1)) for label in ("Ordinary", "Live"))
    small = one.resize((200, 260), Image.BILINEAR)
    file = BytesIO()
    small.save(file, "JPEG", quality=50)
    hashes = [difference_hash(np.asarray(picture)) for picture in (one, Image.open(file), other)]
    assert bin(hashes[0] ^ hashes[1]).count("1") <= 4
    assert bin(hashes[0] ^ hashes[2]).count("1") > 10


def test_a_second_look_joins_copies_whose_hashes_are_close_but_no_others(monkeypatch):
    rng = np.random.default_rng(1)
    one, other, third = (
        np.asarray(Image.fromarray(rng.integers(60, 200, (12, 12, 3)).astype("uint8")).resize((96, 96), Image.BICUBIC))
        for _ in range(3)
    )
    copies = [np.clip(each + rng.normal(0, 6, each.shape), 0, 255).astype("uint8") for each in (one, third)]
    shown, looked = [one, copies[0], other, third, copies[1], np.full((96, 96, 3), 9, "uint8")], []
    # Six bits between the first picture and its copy, another picture and a flat one; three between the other two.
    hashes = [0, 0b111111, 0b111111 << 6, (1 << 64) - 1, (1 << 64) - 8, 0b111111 << 12]

    def look(index):
        looked.append(index)
        return shown[index]

    assert group_alike(range(6), hashes, 4).tolist() == [0, 1, 2, 3, 3, 5]
    assert group_alike(range(6), hashes, 4, look).tolist() == [0, 0, 2, 3, 3, 5]
    assert sorted(looked) == [0, 1, 2, 5], "what the hashes decide needs no second look"
    assert group_alike(range(6), hashes, None, look).tolist() == list(range(6))
    monkeypatch.setattr(duplicates, "_MOST_COMPARED", 3)
    assert group_alike(range(6), hashes, 4, look).tolist() == [0, 1, 2, 3, 3, 5]
