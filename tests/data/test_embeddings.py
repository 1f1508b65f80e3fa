"""Features in a file."""

import os

import numpy as np
import pytest

from lib.data.embeddings import Embeddings, load, nearest
from lib.errors import UsageError

SETTINGS = {"-m/--model": "m", "the model's SHA-256": "0" * 64}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def features(names, width=5):
    """For each name features of its own."""
    seeds = [list(name.encode()) for name in names]
    return np.stack([np.random.default_rng(seed).normal(0, 1, width) for seed in seeds]).astype("float32")


def write(names, path="e.npz", **options):
    with Embeddings(path, SETTINGS, **options) as rows:
        for start in range(0, len(names), 3):
            rows.append(names[start : start + 3], features(names[start : start + 3]))
        rows.finish(sorted(names))


def test_plain_numpy_reads_what_was_written(here):
    names = ["b/ü.jpg", "a\\t.jpg", "c.jpg", "שלום.png"]
    write(names)
    with np.load("e.npz") as file:
        assert set(file) == {"embeddings", "paths", "settings"}
        assert file["embeddings"].dtype == "float32" and file["embeddings"].shape == (4, 5)
        assert file["paths"].tolist() == sorted(names)
        np.testing.assert_array_equal(file["embeddings"], features(sorted(names)))
    assert load("e.npz").settings == SETTINGS
    assert os.listdir(".") == ["e.npz"]


def test_more_rows_than_are_written_at_once(here):
    names = [f"{number:05d}.jpg" for number in range(9001)]
    with Embeddings("e.npz", SETTINGS) as rows:
        rows.append(names[::-1], np.arange(9001, dtype="float32")[::-1, None].repeat(3, axis=1))
        rows.finish(names)
    stored = load("e.npz")
    assert isinstance(stored.embeddings, np.memmap)
    np.testing.assert_array_equal(stored.embeddings[:, 2], np.arange(9001))
    assert stored.paths[9000] == "09000.jpg"


def test_killed_at_any_byte_the_file_is_the_same_in_the_end(here):
    names = [f"{letter}.jpg" for letter in "hgfedcba"]
    write(names, "whole.npz")
    with Embeddings("e.npz", SETTINGS) as rows:
        rows.append(names[:4], features(names[:4]))
    size = (here / "e.npz.partial").stat().st_size
    begun = (here / "e.npz.partial").read_bytes()
    for cut in range(0, size, 7):
        (here / "e.npz.partial").write_bytes(begun[: size - cut])
        with Embeddings("e.npz", SETTINGS) as rows:
            missing = [name for name in names if name not in rows]
            assert len(missing) >= 4
            rows.append(missing, features(missing))
            rows.finish(sorted(names))
        assert (here / "e.npz").read_bytes() == (here / "whole.npz").read_bytes()
        os.unlink("e.npz")


def test_a_finished_file_takes_more_in(here):
    write(["d", "b"])
    before = (here / "e.npz").stat()
    with Embeddings("e.npz", SETTINGS) as rows:
        rows.finish(["b", "d"])
    assert (here / "e.npz").stat() == before
    with Embeddings("e.npz", SETTINGS) as rows:
        rows.append(["b", "a", "c"], np.concatenate([np.zeros((1, 5), "float32"), features(["a", "c"])]))
        rows.finish(["a", "b", "c", "nothing", "d"])
    stored = load("e.npz")
    assert stored.paths.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(stored.embeddings, features(["a", "b", "c", "d"]))  # b as it was
    with Embeddings("e.npz", SETTINGS) as rows:
        rows.finish(["a", "d"])
    assert load("e.npz").paths.tolist() == ["a", "d"]


def test_no_images_at_all(here):
    with Embeddings("e.npz", SETTINGS) as rows:
        rows.finish([])
    assert load("e.npz").embeddings.shape == (0, 0) and os.listdir(".") == ["e.npz"]
    write(["a"], overwrite=True)
    with Embeddings("e.npz", SETTINGS) as rows:
        rows.finish([])
    assert load("e.npz").embeddings.shape == (0, 5) and nearest(load("e.npz"), np.ones(5), 3) == []


def test_other_settings_and_other_files_are_refused(here):
    write(["a"])
    with pytest.raises(UsageError, match="begun with -m/--model"):
        Embeddings("e.npz", dict(SETTINGS, **{"-m/--model": "other"}))
    with Embeddings("e.npz", dict(SETTINGS, **{"-m/--model": "other"}), overwrite=True) as rows:
        rows.append(["b"], features(["b"]))
    assert load("e.npz").paths.tolist() == ["a"]  # until the new one is whole
    with pytest.raises(UsageError, match="begun with -m/--model"):
        Embeddings("e.npz", SETTINGS, overwrite=False)
    os.unlink("e.npz.partial")
    np.savez("foreign.npz", x=np.zeros(3))
    (here / "text.npz").write_text("text")
    np.save("array.npy", np.zeros(3))
    for name in ("foreign.npz", "text.npz", "array.npy"):
        with pytest.raises(UsageError, match="holds no features"):
            Embeddings(name, SETTINGS)
    (here / "new.npz.partial").write_text("mine\n")
    with pytest.raises(UsageError, match="move it"):
        Embeddings("new.npz", SETTINGS)
    assert (here / "new.npz.partial").read_text() == "mine\n"
    with Embeddings("e.npz", SETTINGS), pytest.raises(UsageError, match="another process"):
        Embeddings("e.npz", SETTINGS)


def test_the_nearest_by_cosine(here):
    names = [f"{number:03d}" for number in range(200)]
    write(names)
    stored = load("e.npz")
    query = features(["077"])[0]
    vectors = features(names).astype("float64")
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    expected = np.argsort(-cosines)[1:8]  # the first is the image itself
    found = nearest(stored, 3 * query, 7, without="077")
    assert [name for name, _ in found] == [names[index] for index in expected]
    np.testing.assert_allclose([cosine for _, cosine in found], cosines[expected], rtol=1e-6)
    assert nearest(stored, query, 1)[0][1] == pytest.approx(1)
