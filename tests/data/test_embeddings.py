"""Features in a file."""

import io
import os
import zipfile

import numpy as np
import pytest

from lib.data.embeddings import load_features, nearest, open_features, write_features
from lib.errors import UsageError, WorkError
from lib.storage.names import path_order

SETTINGS = {"model": "m", "model_sha256": "0" * 64}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def features(names, width=5):
    """For each name features of its own."""
    seeds = [list(name.encode()) for name in names]
    return np.stack([np.random.default_rng(seed).normal(0, 1, width) for seed in seeds]).astype("float32")


def keys(names):
    return sorted(map(path_order, names))


def begin(names, path="e.npz", settings=SETTINGS, **options):
    """Leave features as a call does that was stopped."""
    with open_features(path, settings, **options) as journal:
        journal.extend((path_order(name), None, row.tobytes()) for name, row in zip(names, features(names)))


def write(names, path="e.npz", only=None, settings=SETTINGS, **options):
    """Write features of `only`, of all that there are by default."""
    with open_features(path, settings, **options) as journal:
        new = list(journal.missing(keys(names)))
        if new:
            new = [name for name in names if path_order(name) in new]
            journal.extend((path_order(name), None, row.tobytes()) for name, row in zip(new, features(new)))
        write_features(path, settings, journal, list(journal.keys()) if only is None else keys(only))


def test_plain_numpy_reads_what_was_written(here):
    names = ["b/ü.jpg", "a\\t.jpg", "c.jpg", "שלום.png"]
    write(names)
    with np.load("e.npz") as file:
        assert set(file) == {"embeddings", "paths", "settings", "files"}
        assert file["files"].shape == (4, 3) and file["files"].dtype == "int64"
        assert file["embeddings"].dtype == "float32" and file["embeddings"].shape == (4, 5)
        assert file["paths"].tolist() == sorted(names)
        np.testing.assert_array_equal(file["embeddings"], features(sorted(names)))
    assert load_features("e.npz").settings == SETTINGS
    assert os.listdir(".") == ["e.npz"]


def test_rows_are_read_as_they_are_needed(here):
    write([f"{number:05d}.jpg" for number in range(901)])
    stored = load_features("e.npz")
    assert isinstance(stored.embeddings, np.memmap) and stored.paths[900] == "00900.jpg"
    np.testing.assert_array_equal(stored.embeddings[900:], features(["00900.jpg"]))


def test_stopped_and_continued_the_file_is_the_same_in_the_end(here):
    names = [f"{letter}.jpg" for letter in "hgfedcba"]
    write(names, "whole.npz")
    begin(names[:4])
    assert os.path.exists("e.npz.partial") and not os.path.exists("e.npz")
    write(names)
    assert (here / "e.npz").read_bytes() == (here / "whole.npz").read_bytes()
    assert sorted(os.listdir(".")) == ["e.npz", "whole.npz"]


def test_a_finished_file_takes_more_in(here):
    write(["d", "b"])
    before = (here / "e.npz").stat()
    write(["b", "d"])
    assert ((here / "e.npz").stat().st_ino, (here / "e.npz").stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write(["b", "a", "c"], only=["a", "b", "c", "nothing", "d"])
    stored = load_features("e.npz")
    assert stored.paths.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(stored.embeddings, features(["a", "b", "c", "d"]))
    write([], only=["a", "d"])
    assert load_features("e.npz").paths.tolist() == ["a", "d"]


def test_no_images_at_all(here):
    write([])
    assert load_features("e.npz").embeddings.shape == (0, 0) and os.listdir(".") == ["e.npz"]
    write(["a"], overwrite=True)
    write([], only=[])
    assert load_features("e.npz").embeddings.shape == (0, 5) and nearest(load_features("e.npz"), np.ones(5), 3) == []


def test_other_settings_and_other_files_are_refused(here):
    write(["a"])
    other = {**SETTINGS, "model": "other"}
    with pytest.raises(UsageError, match="e.npz was begun with ⟦model⟧") as error:
        open_features("e.npz", other)
    assert error.value.setting == "embeddings"
    begin(["b"], settings=other, overwrite=True)
    assert load_features("e.npz").paths.tolist() == ["a"]  # until the new one is whole
    with pytest.raises(UsageError, match="begun with ⟦model⟧"):
        open_features("e.npz", SETTINGS)
    os.unlink("e.npz.partial")
    np.savez("foreign.npz", x=np.zeros(3))
    (here / "text.npz").write_text("text")
    np.save("array.npy", np.zeros(3))
    for name in ("foreign.npz", "text.npz", "array.npy"):
        with pytest.raises(UsageError, match="holds no features"):
            open_features(name, SETTINGS)
    (here / "new.npz.partial").write_text("mine\n")
    with pytest.raises(UsageError, match="move it"):
        open_features("new.npz", SETTINGS)
    assert (here / "new.npz.partial").read_text() == "mine\n"
    with open_features("e.npz", SETTINGS), pytest.raises(UsageError, match="another process"):
        open_features("e.npz", SETTINGS)
    os.mkfifo("pipe.npz.partial")
    with pytest.raises(WorkError, match=r"pipe.npz can't be written \(it is not a regular file\)"):
        open_features("pipe.npz", SETTINGS)


GOOD = {"embeddings": np.zeros((1, 2), "float32"), "paths": np.array(["a"]), "settings": np.array("{}")}


@pytest.mark.parametrize(
    "changes",
    [
        {"embeddings": np.array([["a"]])},
        {"paths": np.array([1.0])},
        {"paths": np.array(["\ud800"])},
        {"settings": np.array("[" * 100_000)},
    ],
)
def test_features_that_are_none(here, changes):
    np.savez("e.npz", **GOOD)
    assert load_features("e.npz").paths.tolist() == ["a"]
    np.savez("e.npz", **{**GOOD, **changes})
    with pytest.raises(UsageError, match="e.npz holds no features of images"):
        load_features("e.npz")


class Touch:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def write_npz(path, arrays, packing=None):
    """Write arrays as `.npz`, those in `packing` (name -> way) packed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=True)
            archive.writestr(f"{name}.npy", content.getvalue(), (packing or {}).get(name, zipfile.ZIP_STORED))


def test_arrays_that_are_pickles_are_not_unpickled(here):
    pickled = np.empty(1, object)
    pickled[0] = Touch("made")
    write_npz("a.npz", GOOD)
    assert load_features("a.npz").paths.tolist() == ["a"]
    for name in GOOD:
        write_npz("a.npz", {**GOOD, name: pickled})
        with pytest.raises(UsageError, match="a.npz holds no features of images"):
            load_features("a.npz")
    assert not os.path.exists("made")
    np.save("a.npy", pickled, allow_pickle=True)
    np.load("a.npy", allow_pickle=True)[0].close()
    assert os.path.exists("made")  # else the test would show nothing


def test_arrays_packed_to_fill_the_memory(here):
    count = (65 << 20) // 4
    large = {**GOOD, "embeddings": np.zeros((count, 0), "float32"), "paths": np.zeros(count, "<U1")}
    write_npz("a.npz", large, {"paths": zipfile.ZIP_DEFLATED})
    assert os.path.getsize("a.npz") < 200_000
    with pytest.raises(UsageError, match="a.npz holds no features of images"):
        load_features("a.npz")
    write_npz("a.npz", GOOD, {"paths": zipfile.ZIP_DEFLATED})
    assert load_features("a.npz").paths.tolist() == ["a"]
    for packing in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        write_npz("a.npz", GOOD, {"paths": packing})
        with pytest.raises(UsageError, match="a.npz holds no features of images"):
            load_features("a.npz")


def test_the_nearest_by_cosine(here):
    names = [f"{number:03d}" for number in range(200)]
    write(names)
    stored = load_features("e.npz")
    query = features(["077"])[0]
    vectors = features(names).astype("float64")
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    expected = np.argsort(-cosines)[1:8]  # the first is the image itself
    found = nearest(stored, 3 * query, 7, without="077")
    assert [name for name, _ in found] == [names[index] for index in expected]
    np.testing.assert_allclose([cosine for _, cosine in found], cosines[expected], rtol=1e-6)
    assert nearest(stored, query, 1)[0][1] == pytest.approx(1)
