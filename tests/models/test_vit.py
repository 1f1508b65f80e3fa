"""The vision transformer: the logits that PyTorch computes, from checkpoints that PyTorch wrote."""

import shutil

import numpy as np
import pytest
from conftest import FIXTURES
from documents import commands
from vits import take_arrays

from lib.errors import UsageError, WorkError
from lib.models import diagram, vit
from lib.models.torch_files import read_arrays

VIT = FIXTURES / "vit"
FILES = ("token.pth", "mean.tar", "scale.safetensors", "bare.pt")


def opened(name):
    """Arrays, design and model of a fixture, and what PyTorch computed."""
    tensors = read_arrays(str(VIT / name))
    known = np.load(VIT / f"{name.split('.')[0]}.npz")
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    design = vit.design_of(shapes, int(known["heads"]))
    vit.check_arrays(shapes, design)
    model = vit.build_vit(design)
    vit.put_arrays(model, design, lambda key: tensors[key].read())
    return tensors, design, model, known


@pytest.mark.parametrize("name", FILES)
def test_the_logits_are_those_of_pytorch(name):
    _, design, model, known = opened(name)
    logits = model(known["images"].transpose(0, 2, 3, 1), training=False)
    assert np.abs(known["logits"]).max() > 1
    np.testing.assert_allclose(logits, known["logits"], atol=1e-4)
    assert model.count_params() >= sum(np.prod(shape) for shape in vit.array_shapes(design).values())


def test_what_a_design_is_read_from():
    designs = {name: opened(name)[1] for name in FILES}
    token, mean, scale, bare = designs.values()
    assert (token.size, token.patch, token.width, token.depth, token.categories, token.hidden) == (32, 8, 24, 2, 11, 48)
    assert token.class_token and token.token_position and not token.mean and token.query_bias
    assert mean.mean and mean.last == "fc_norm" and not mean.query_bias
    assert scale.layer_scale and not scale.token_position and bare.mean and not bare.class_token


def test_the_arrays_come_out_as_they_went_in():
    for name in ("token.pth", "bare.pt"):
        tensors, design, model, _ = opened(name)
        arrays = take_arrays(model, design)
        assert set(arrays) == set(tensors)
        for key, values in arrays.items():
            np.testing.assert_array_equal(values, tensors[key].read(), err_msg=key)


def test_published_sizes():
    base = vit.Design(224, 16, 3, 768, 12, 12, 3072, 21_000)
    shapes = vit.array_shapes(base)
    assert vit.design_of(shapes) == base
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 101_947_656


def test_missing_and_surplus_arrays_are_named():
    shapes = vit.array_shapes(vit.Design(32, 8, 3, 64, 2, 1, 128, 5))
    for changed, message in (
        ({"norm.bias": None, "blocks.1.norm1.bias": None}, "blocks.1.norm1.bias, norm.bias are missing"),
        ({"dist_token": (1, 1, 64)}, "dist_token is left over"),
        (
            {"blocks.0.attn.qkv.weight": (64, 64)},
            r"blocks.0.attn.qkv.weight has the shape \(64, 64\), but needs \(192, 64\)",
        ),
        ({"head.weight": None}, "head.weight is missing: it holds no vision transformer classifier"),
        ({"pos_embed": (1, 19, 64)}, "19 positions, which don't form a square"),
        ({"pos_embed": (17, 64)}, r"pos_embed has the shape \(17, 64\)"),
        ({"patch_embed.proj.weight": (64, 3, 0, 0)}, r"patch_embed.proj.weight has the shape .*, none of them 0"),
    ):
        given = {name: shape for name, shape in {**shapes, **changed}.items() if shape is not None}
        with pytest.raises(WorkError, match=message):
            vit.check_arrays(given, vit.design_of(given))
    with pytest.raises(UsageError, match="a width of 64 can't be divided evenly among 5 heads") as error:
        vit.design_of(shapes, 5)
    assert error.value.setting == "heads"
    with pytest.raises(UsageError, match="the number of attention heads can't be inferred from a width of 24"):
        vit.design_of(vit.array_shapes(vit.Design(32, 8, 3, 24, 2, 2, 128, 5)))


def test_the_pages_picture_is_of_such_a_model(monkeypatch, tmp_path):
    (line,) = (line for line in commands("docs/vitTeacher.md") if " -c '" in line)
    drawn = []
    monkeypatch.setattr(diagram, "draw_model", lambda model, *_: drawn.append(model) or b"")
    monkeypatch.chdir(tmp_path)
    exec(line.split("'")[1], {})
    (model,) = drawn
    assert model.input_shape == (None, 224, 224, 3) and model.output_shape == (None, 1000)
    assert "block0_attention" in {layer.name for layer in model.layers}


def test_a_block_of_many_is_drawn():
    if shutil.which("dot") is None:
        pytest.skip("needs Graphviz's dot")
    model = vit.build_vit(vit.Design(32, 8, 3, 24, 3, 2, 48, 5))
    drawn = diagram.draw_model(model, 32, "svg").decode()
    assert "Block 0, one of 3 alike" in drawn and "block0_attention" in drawn and "block1" not in drawn
