"""The state of a stopped training: it comes back as it was, or is refused in a sentence."""

import io
import zipfile

import numpy as np
import pytest

from lib.errors import WorkError
from lib.storage.states import load_state, save_state


def test_a_state_comes_back_as_it_was(tmp_path):
    path = str(tmp_path / "state.npz")
    assert load_state(path) == (None, None)
    groups = {"many": [np.arange(3.0), np.float32(7)], "none": [], "more": [np.array([2**60])]}
    save_state(path, {"epoch": 3, "best": -np.inf}, groups)
    facts, found = load_state(path)
    assert facts == {"epoch": 3, "best": -np.inf}
    assert set(found) == {"many", "more"}
    for name, arrays in found.items():
        for array, expected in zip(arrays, groups[name]):
            np.testing.assert_array_equal(array, expected)
            assert array.dtype == np.asarray(expected).dtype


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_state_that_is_cut_short_is_told(tmp_path, share):
    path = tmp_path / "state.npz"
    save_state(str(path), {}, {"a": [np.zeros(1000)]})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WorkError, match="state.npz is damaged"):
        load_state(str(path))


class Touch:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def write_npz(path, arrays, packing=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, array in arrays.items():
            with io.BytesIO() as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=True)
                archive.writestr(f"{name}.npy", file.getvalue())


def test_facts_and_arrays_that_are_none(tmp_path):
    path, good = str(tmp_path / "state.npz"), np.frombuffer(b"{}", "uint8")
    write_npz(path, {"facts": good, "a/0": np.ones(2)})
    assert load_state(path)[1]["a"][0].sum() == 2
    for facts in (b"[" * 100_000, b"\xff", b"{"):
        write_npz(path, {"facts": np.frombuffer(facts, "uint8")})
        with pytest.raises(WorkError, match="state.npz is damaged .*⟦fresh⟧"):
            load_state(path)
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1<<50,)}".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("facts.npy", b"\x93NUMPY\x01\x00\x76\x00" + huge)
    with pytest.raises(WorkError, match="state.npz is damaged"):
        load_state(path)
    for packing in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        write_npz(path, {"facts": good}, packing)
        with pytest.raises(WorkError, match="state.npz is damaged .its .* is compressed in a way"):
            load_state(path)


def test_pickles_are_not_unpickled(tmp_path):
    path, made = str(tmp_path / "state.npz"), tmp_path / "made"
    pickled = np.empty(1, object)
    pickled[0] = Touch(str(made))
    for arrays in ({"facts": np.frombuffer(b"{}", "uint8"), "weights/0": pickled}, {"facts": pickled}):
        write_npz(path, arrays)
        with pytest.raises(WorkError, match=r"state.npz is damaged .*⟦fresh⟧"):
            load_state(path)
    assert not made.exists()
    np.load(path, allow_pickle=True)["facts"][0].close()
    assert made.exists()  # else the test would show nothing
