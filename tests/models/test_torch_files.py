"""Checkpoints of PyTorch: what is read of them, and that nothing in them is run."""

import json
import os
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from conftest import FIXTURES
from hypothesis import strategies as st
from properties import any_json, many

from lib.errors import UsageError
from lib.models.torch_files import read_arrays

VIT = FIXTURES / "vit"
MARKER = "patch_embed.proj.weight"

# Steps of a pickle that make and keep things: names of all kinds, calls, memos, tuples, lists, dictionaries.
STEPS = [bytes([code]) for code in b")]}(t\x85\x86\x87N\x880 2easuld".replace(b" ", b"")]
STEPS += [bytes([code]) for code in b"RbQ\x81\x8f\x90\x91\x93\x94"]
STEPS += [b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"K\x02"]
STEPS += [b"X\x01\x00\x00\x00a", b"X\x07\x00\x00\x00storage", b"J\xff\xff\xff\xff", b"ccollections\nOrderedDict\n"]
STEPS += [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\nFloatStorage\n"]
STEPS += [b"cargparse\nNamespace\n", b"cbuiltins\nset\n", b"cos\nsystem\n", b"cbuiltins\neval\n", b"i__main__\nx\n"]


def text(value):
    """The opcodes of a pickle that make a text; the following ones make other things."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def several(*items):
    return b"(" + b"".join(items) + b"t"


def array(offset=0, shape=(2, 3), strides=(3, 1), count=6, kind="torch\nFloatStorage", key="0"):
    """An array as `torch.save` writes it."""
    storage = several(text("storage"), b"c" + kind.encode() + b"\n", text(key), text("cpu"), number(count)) + b"Q"
    hooks = b"ccollections\nOrderedDict\n)R"
    sides = [several(*map(number, values)) for values in (shape, strides)]
    given = several(storage, number(offset), *sides, b"\x89", hooks)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + given + b"R"


def dictionary(**items):
    return b"}" + b"".join(text(name.replace("__", ".")) + value + b"s" for name, value in items.items())


def write(path, content=None, numbers=None, **options):
    """Write a checkpoint as a zip; returns its path as text."""
    numbers = np.arange(6, dtype="<f4") if numbers is None else numbers
    content = dictionary(patch_embed__proj__weight=array()) if content is None else content
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/data/0", numbers.tobytes())
    return str(path)


def test_an_array_with_an_offset_and_strides(tmp_path):
    content = dictionary(patch_embed__proj__weight=array(1, (2, 2), (1, 2)))
    found = read_arrays(write(tmp_path / "a.pth", content))
    assert found[MARKER].shape == (2, 2)
    np.testing.assert_array_equal(found[MARKER].read(), [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    ("kind", "numbers", "expected"),
    [
        ("DoubleStorage", np.arange(6, dtype="<f8") / 3, np.arange(6) / 3),
        ("HalfStorage", np.arange(6, dtype="<f2"), np.arange(6)),
        ("BFloat16Storage", np.array([0x3F80, 0xC000, 0x3FC0, 0, 0x8000, 0x4248], "<u2"), [1, -2, 1.5, 0, 0, 50]),
        ("LongStorage", np.arange(6, dtype="<i8"), np.arange(6)),
    ],
)
def test_kinds_of_numbers(tmp_path, kind, numbers, expected):
    content = dictionary(patch_embed__proj__weight=array(shape=(6,), strides=(1,), kind=f"torch\n{kind}"))
    found = read_arrays(write(tmp_path / "a.pth", content, numbers))[MARKER].read()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == ("int64" if kind == "LongStorage" else "float32")


def test_nothing_is_run(tmp_path):
    proof = tmp_path / "proof"

    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {proof}",)

    call = pickle.dumps(Attack(), protocol=2)[2:-1]
    for name, content in {
        "call": dictionary(patch_embed__proj__weight=array(), other=call),
        "eval": dictionary(other=b"c__builtin__\neval\n" + several(text(f"open({str(proof)!r}, 'w')")) + b"R"),
        "import": b"ctorch.hub\nload\n",
        "storage": b"ctorch.storage\n_load_from_bytes\n",
        "getattr": b"cbuiltins\ngetattr\n",
    }.items():
        with pytest.raises(UsageError, match=f"{name}.pth tries to run code: "):
            read_arrays(write(tmp_path / f"{name}.pth", content))
    legacy = tmp_path / "legacy.pth"
    legacy.write_bytes(pickle.dumps(Attack(), protocol=2))
    with pytest.raises(UsageError, match="tries to run code: posix.system"):
        read_arrays(str(legacy))
    assert not proof.exists()


def test_remarks_beside_the_arrays_are_passed_over(tmp_path):
    namespace = b"cargparse\nNamespace\n)R" + dictionary(lr=number(1)) + b"b"
    scalar = (
        b"cnumpy.core.multiarray\nscalar\n" + several(b"cnumpy\ndtype\n" + several(text("f8")) + b"R", text("x")) + b"R"
    )
    content = dictionary(model=dictionary(patch_embed__proj__weight=array()), args=namespace, best=scalar)
    assert set(read_arrays(write(tmp_path / "a.pth", content))) == {MARKER}


def test_which_dictionary_and_which_prefix(tmp_path):
    arrays = {"module__patch_embed__proj__weight": array(), "module__head__bias": array(shape=(6,), strides=(1,))}
    content = dictionary(model_ema=dictionary(**arrays), model=dictionary(patch_embed__proj__weight=array()))
    path = write(tmp_path / "a.pth", content)
    assert set(read_arrays(path)) == {MARKER, "head.bias"}
    assert set(read_arrays(path, "model")) == {MARKER}
    with pytest.raises(UsageError, match="has no dictionary 'optimizer'"):
        read_arrays(path, "optimizer")
    with pytest.raises(UsageError, match=f"holds no array '{MARKER}'"):
        read_arrays(write(tmp_path / "b.pth", dictionary(conv1=array())))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shape": (2, 4)}, "an array that lies outside of its numbers"),
        ({"offset": 1}, "lies outside of its numbers"),
        ({"offset": -1}, "an impossible array"),
        ({"strides": (-3, 1)}, "an impossible array"),
        ({"strides": (3,)}, "is not a whole checkpoint"),
        ({"shape": (1 << 30, 1 << 30), "strides": (0, 0)}, "more numbers than it has"),
        ({"count": 7}, "has fewer numbers '0' than it says"),
        ({"key": "../1"}, "no item named 'archive/data/../1'"),
        ({"kind": "collections\nOrderedDict"}, "an array of an unknown kind"),
        ({"kind": "torch\nQInt8Storage"}, "torch.QInt8Storage has no place in a checkpoint"),
    ],
)
def test_arrays_that_can_not_be(tmp_path, given, words):
    with pytest.raises(UsageError, match=f"a.pth .*{words}"):
        read_arrays(write(tmp_path / "a.pth", dictionary(patch_embed__proj__weight=array(**given))))[MARKER].read()


def test_small_files_that_would_fill_the_memory(tmp_path):
    weights = {f"blocks__{number}": array(0, (2000,), (1,), 2000) for number in range(1000)}
    for content, words in (
        (dictionary(other=b"Nr" + struct.pack("<I", 1 << 31)), "too large a description"),
        (dictionary(patch_embed__proj__weight=array(), **weights), "describes more numbers than it has"),
    ):
        path = str(tmp_path / "a.pth")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
            archive.writestr("archive/data/0", bytes(8000))
        with pytest.raises(UsageError, match=words):
            read_arrays(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", b"little" + bytes(100))
    with pytest.raises(UsageError, match="big-endian"):
        read_arrays(path)


def test_the_same_dictionary_under_two_names(tmp_path):
    content = dictionary(state=dictionary(patch_embed__proj__weight=array()) + b"q\x00", model=b"h\x00")
    assert set(read_arrays(write(tmp_path / "a.pth", content), "model")) == {MARKER}


@pytest.mark.parametrize(
    "part", ["torch._utils\n_rebuild_parameter", "collections\nOrderedDict", "argparse\nNamespace"]
)
@pytest.mark.parametrize("name", ["__defaults__", "__init__", "__class__", "other"])
def test_nothing_here_can_be_changed(tmp_path, part, name):
    state = b"N}" + text(name) + several(number(1)) + b"s\x86b"
    for given in (state, dictionary(other=number(1)) + b"b"):
        content = dictionary(patch_embed__proj__weight=array(), other=b"c" + part.encode() + b"\n" + given)
        with pytest.raises(UsageError, match="is not a whole checkpoint"):
            read_arrays(write(tmp_path / "a.pth", content))


def test_the_former_format_without_the_numbers(tmp_path):
    heads = [pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    content = b"\x80\x02" + dictionary(patch_embed__proj__weight=array()) + b"."
    numbers = struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes()
    path = tmp_path / "a.pth"
    path.write_bytes(b"".join([*heads, content, pickle.dumps(["0"], protocol=2), numbers]))
    np.testing.assert_array_equal(read_arrays(str(path))[MARKER].read(), np.arange(6).reshape(2, 3))
    path.write_bytes(b"".join([*heads, content, pickle.dumps([], protocol=2), numbers]))
    with pytest.raises(UsageError, match="is not a whole checkpoint"):
        read_arrays(str(path))[MARKER].read()


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.pth").write_text("no checkpoint")
    (tmp_path / "empty.pth").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme", "text")
    for name in ("token.pth", "mean.tar", "scale.safetensors"):
        content = (VIT / name).read_bytes()
        (tmp_path / f"half-{name}").write_bytes(content[: len(content) // 2])
    packed = write(tmp_path / "packed.pth", compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "loop.pth").write_bytes(b"\x80\x02" + b"(" * 100)
    for path in sorted(map(str, tmp_path.iterdir())):
        with pytest.raises(UsageError, match=r"^\S+ ((is|has|lacks|says|was|holds) .*|.*not a whole checkpoint.*)\.$"):
            for tensor in read_arrays(path).values():
                tensor.read()
    with pytest.raises(UsageError, match=r"its archive/data\.pkl is compressed in a way that this format never uses"):
        read_arrays(packed)
    with pytest.raises(UsageError, match="doesn't exist"):
        read_arrays(str(tmp_path / "none.pth"))


def test_safetensors_that_lie(tmp_path):
    def make(**about):
        header = json.dumps({MARKER: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **about}}).encode()
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
        return read_arrays(str(tmp_path / "a.safetensors"))

    assert make()[MARKER].read().shape == (2, 3)
    for about, words in (
        ({"data_offsets": [0, 28]}, "lies outside of it"),
        ({"data_offsets": [-4, 20]}, "lies outside of it"),
        ({"shape": [2.0, 3.0]}, "is not a whole checkpoint"),
        ({"shape": [2, 4]}, "has 24 bytes"),
        ({"shape": [-2, -3]}, "lies outside"),
        ({"dtype": "F4"}, "in F4, which is not supported"),
    ):
        with pytest.raises(UsageError, match=words):
            make(**about)
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(UsageError, match="not a whole .safetensors file"):
        read_arrays(str(tmp_path / "b.safetensors"))


@many
@hypothesis.given(st.lists(st.sampled_from(STEPS), max_size=30).map(b"".join), st.booleans())
def test_any_pickle_as_a_checkpoint(steps, legacy):
    with tempfile.TemporaryDirectory() as here:
        path = os.path.join(here, "a.pth")
        if legacy:
            heads = [
                pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
            ]
            Path(path).write_bytes(b"".join([*heads, b"\x80\x04" + steps + b".", pickle.dumps([], protocol=2)]))
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a/data.pkl", b"\x80\x04" + steps + b".")
                archive.writestr("a/data/a", bytes(24))
        with pytest.raises(UsageError, match="a.pth "):
            read_arrays(path)


@many
@hypothesis.given(any_json)
def test_any_header_of_safetensors(header):
    with tempfile.TemporaryDirectory() as here:
        path = os.path.join(here, "a.safetensors")
        for value in (header, {"patch_embed.proj.weight": header}):
            text = json.dumps(value).encode()
            Path(path).write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
            with pytest.raises(UsageError, match="a.safetensors "):
                read_arrays(path)


def test_checkpoints_that_would_crash_python(tmp_path):
    path = tmp_path / "a.pth"
    deep, again = b")" + b"\x85" * 500_000, b"q\x00h\x00\x85"
    for content in (
        b"}" + deep + b"Ns",
        deep,
        b"]" + b")" + b"\x85q\x00h\x00" * 300_000 + b"a",
        b")" + again * 200_000,
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02" + content + b".")
        with pytest.raises(UsageError, match="a.pth has too large a description"):
            read_arrays(str(path))
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 50) + b"abc.")  # bytes, a petabyte of them
    with pytest.raises(UsageError, match="a.pth is not a whole checkpoint"):
        read_arrays(str(path))


def test_numbers_of_a_checkpoint_that_are_damaged(tmp_path):
    content = bytearray((FIXTURES / "vit" / "token.pth").read_bytes())
    with zipfile.ZipFile(FIXTURES / "vit" / "token.pth") as archive:
        place = max(archive.infolist(), key=lambda member: member.file_size)
    content[place.header_offset + 200] ^= 1
    (tmp_path / "a.pth").write_bytes(content)
    tensors = read_arrays(str(tmp_path / "a.pth"))
    with pytest.raises(UsageError, match="a.pth is not a whole checkpoint .*CRC"):
        [tensor.read() for tensor in tensors.values()]


def test_compressed_members_are_refused(tmp_path):
    whole = VIT / "token.pth"
    assert read_arrays(str(whole))
    for name in ("data.pkl", "byteorder", "/0"):
        path = str(tmp_path / "a.pth")
        with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w") as target:
            for member in archive.infolist():
                way = zipfile.ZIP_DEFLATED if member.filename.endswith(name) else zipfile.ZIP_STORED
                target.writestr(member.filename, archive.read(member), way)
        with pytest.raises(UsageError, match=f"a.pth is not a whole checkpoint .its .*{name} is compressed in a way"):
            read_arrays(path)
