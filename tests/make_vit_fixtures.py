"""Make the fixtures of vision transformers: weights, inputs, and the logits that PyTorch computes. Needs PyTorch.

    python -m venv torch-environment && torch-environment/bin/pip install torch numpy safetensors
    torch-environment/bin/python tests/make_vit_fixtures.py

writes `tests/fixtures/vit/`. The model below is written for this: the same maths as timm's, by PyTorch's own functions.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

FOLDER = Path(__file__).parent / "fixtures" / "vit"


def vit(weights, images, heads):
    """The logits of normalised images `(batch, 3, size, size)`."""
    patch = weights["patch_embed.proj.weight"].shape[-1]
    x = functional.conv2d(images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2)
    positions, width = weights["pos_embed"], x.shape[-1]
    if "cls_token" in weights:
        if positions.shape[1] == x.shape[1]:
            x, positions = x + positions, None
        x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x], dim=1)
    if positions is not None:
        x = x + positions
    number = 0
    while f"blocks.{number}.norm1.weight" in weights:
        block = {
            name[len(f"blocks.{number}.") :]: value
            for name, value in weights.items()
            if name.startswith(f"blocks.{number}.")
        }
        y = functional.layer_norm(x, (width,), block["norm1.weight"], block["norm1.bias"], 1e-6)
        y = functional.linear(y, block["attn.qkv.weight"], block.get("attn.qkv.bias"))
        y = y.reshape(*y.shape[:2], 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(*y).transpose(1, 2).reshape(x.shape)
        y = functional.linear(y, block["attn.proj.weight"], block["attn.proj.bias"])
        x = x + y * block.get("ls1.gamma", 1.0)
        y = functional.layer_norm(x, (width,), block["norm2.weight"], block["norm2.bias"], 1e-6)
        y = functional.gelu(functional.linear(y, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
        y = functional.linear(y, block["mlp.fc2.weight"], block["mlp.fc2.bias"])
        x = x + y * block.get("ls2.gamma", 1.0)
        number += 1
    if "norm.weight" in weights:
        x = functional.layer_norm(x, (width,), weights["norm.weight"], weights["norm.bias"], 1e-6)
    if "fc_norm.weight" in weights:
        x = functional.layer_norm(
            x[:, 1:].mean(dim=1), (width,), weights["fc_norm.weight"], weights["fc_norm.bias"], 1e-6
        )
    else:
        x = x[:, 0] if "cls_token" in weights else x.mean(dim=1)
    return functional.linear(x, weights["head.weight"], weights["head.bias"])


def random_weights(
    seed,
    size,
    patch,
    width,
    depth,
    outputs,
    hidden,
    class_token=True,
    token_position=True,
    last="norm",
    bias=True,
    scale=False,
):
    """Weights in timm's naming, large enough that every part of the model matters."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, deviation=0.3, mean=0.0):
        return mean + deviation * torch.randn(shape, generator=generator)

    squares = (size // patch) ** 2
    weights = {
        "pos_embed": normal(1, squares + (class_token and token_position), width),
        "patch_embed.proj.weight": normal(width, 3, patch, patch),
        "patch_embed.proj.bias": normal(width),
    }
    if class_token:
        weights["cls_token"] = normal(1, 1, width)
    for number in range(depth):
        block = {
            "norm1.weight": normal(width, mean=1.0),
            "norm1.bias": normal(width),
            "attn.qkv.weight": normal(3 * width, width),
            "attn.proj.weight": normal(width, width),
            "attn.proj.bias": normal(width),
            "norm2.weight": normal(width, mean=1.0),
            "norm2.bias": normal(width),
            "mlp.fc1.weight": normal(hidden, width),
            "mlp.fc1.bias": normal(hidden),
            "mlp.fc2.weight": normal(width, hidden),
            "mlp.fc2.bias": normal(width),
        }
        if bias:
            block["attn.qkv.bias"] = normal(3 * width)
        if scale:
            block.update({"ls1.gamma": normal(width), "ls2.gamma": normal(width)})
        weights.update({f"blocks.{number}.{name}": value for name, value in block.items()})
    weights.update({f"{last}.weight": normal(width, mean=1.0), f"{last}.bias": normal(width)})
    weights.update({"head.weight": normal(outputs, width), "head.bias": normal(outputs)})
    return weights


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    designs = {
        # A class token, today's zip, nested with a prefix and beside the settings of a training, as DeiT's are.
        "token": (2, {"size": 32, "patch": 8, "width": 24, "depth": 2, "outputs": 11, "hidden": 48}),
        # The mean over the squares, no bias of queries, the format of before 2020.
        "mean": (
            3,
            {
                "size": 24,
                "patch": 12,
                "width": 12,
                "depth": 1,
                "outputs": 5,
                "hidden": 20,
                "last": "fc_norm",
                "bias": False,
            },
        ),
        # Factors at the branches' ends, a token without a position, .safetensors of several kinds of numbers.
        "scale": (
            1,
            {
                "size": 48,
                "patch": 16,
                "width": 16,
                "depth": 3,
                "outputs": 7,
                "hidden": 16,
                "token_position": False,
                "scale": True,
            },
        ),
        # No class token at all.
        "bare": (
            4,
            {"size": 16, "patch": 4, "width": 16, "depth": 1, "outputs": 3, "hidden": 24, "class_token": False},
        ),
    }
    for seed, (name, (heads, design)) in enumerate(designs.items()):
        weights = random_weights(seed, **design)
        if name == "scale":
            kinds = {"blocks.0.": torch.float16, "blocks.1.": torch.bfloat16, "head.": torch.float64}
            for known in weights:
                for prefix, kind in kinds.items():
                    if known.startswith(prefix):
                        weights[known] = weights[known].to(kind)
        images = torch.rand((3, 3, design["size"], design["size"]), generator=torch.Generator().manual_seed(9))
        logits = vit({known: value.float() for known, value in weights.items()}, images, heads)
        np.savez_compressed(
            FOLDER / f"{name}.npz", images=images.numpy().astype("float32"), logits=logits.numpy(), heads=heads
        )
        if name == "token":
            content = {
                "epoch": 3,
                "args": argparse.Namespace(lr=0.1, data_path="/data"),
                "optimizer": {"state": {0: {"step": 5, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 0.1}]},
                "model": {f"module.{known}": torch.nn.Parameter(value) for known, value in weights.items()},
            }
            torch.save(content, FOLDER / "token.pth")
        elif name == "mean":
            torch.save(weights, FOLDER / "mean.tar", _use_new_zipfile_serialization=False)
        elif name == "scale":
            save_file(weights, FOLDER / "scale.safetensors", {"format": "pt"})
        else:
            # One long row of numbers that all arrays are parts of, one of them turned: offsets and strides.
            whole = torch.cat([value.flatten() for value in weights.values()])
            parts, place = {}, 0
            for known, value in weights.items():
                part = whole[place : place + value.numel()].view(value.shape)
                parts[known] = part
                place += value.numel()
            parts["head.weight"] = parts["head.weight"].t().contiguous().t()
            torch.save({"state_dict": parts}, FOLDER / "bare.pt")


if __name__ == "__main__":
    main()
