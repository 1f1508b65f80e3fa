"""Checkpoints of vision transformers, for the tests of what reads them."""

import numpy as np


def take_arrays(model, design):
    """The arrays of a checkpoint of a model of `build_vit`, as `put_arrays` takes them: name -> float32 array.

    For designs in which all tokens have a position and queries a bias.
    """
    width = design.width
    arrays = {}

    def get(layer):
        return model.get_layer(layer).get_weights()

    def dense(layer, name):
        weights, bias = get(layer)
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = weights.T, bias

    def normalization(layer, name):
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = get(layer)

    weights, arrays["patch_embed.proj.bias"] = get("patch_embed")
    arrays["patch_embed.proj.weight"] = weights.transpose(3, 2, 0, 1)
    positions, *token = get("tokens")
    arrays["pos_embed"] = positions[None]
    if token:
        arrays["cls_token"] = token[0][None]
    for number in range(design.depth):
        names, layers = f"blocks.{number}", f"block{number}"
        for place in (1, 2):
            normalization(f"{layers}_norm{place}", f"{names}.norm{place}")
            dense(f"{layers}_dense{place}", f"{names}.mlp.fc{place}")
            if design.layer_scale:
                (arrays[f"{names}.ls{place}.gamma"],) = get(f"{layers}_scale{place}")
        *parts, last, arrays[f"{names}.attn.proj.bias"] = get(f"{layers}_attention")
        arrays[f"{names}.attn.qkv.weight"] = np.concatenate([part.reshape(width, width).T for part in parts[::2]])
        arrays[f"{names}.attn.qkv.bias"] = np.concatenate([part.reshape(width) for part in parts[1::2]])
        arrays[f"{names}.attn.proj.weight"] = last.reshape(width, width).T
    normalization(design.last, design.last)
    dense("head", "head")
    return {name: np.ascontiguousarray(values) for name, values in arrays.items()}
