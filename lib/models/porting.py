"""Making a teacher of a PyTorch checkpoint: a vision transformer as a SavedModel."""

import dataclasses
import logging
import os
from typing import Optional

from lib.errors import UsageError, WorkError, option

log = logging.getLogger(__name__)

# The normalisation of a training's images: mean and standard deviation of each band, of pixels from 0 to 1.
NORMALIZATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a teacher.

    Attributes:
        checkpoint: a `.safetensors` file or one by `torch.save`, with timm's names.
        output: the directory to make.
        normalize: a key of `NORMALIZATIONS`, whose values become part of the model.
        heads: see `lib.models.vit.design_of`.
        key: see `lib.models.torch_files.read_arrays`.
        overwrite: whether to replace a teacher that an earlier call made.
    """

    checkpoint: str
    output: str
    normalize: str = "imagenet"
    heads: Optional[int] = None
    key: Optional[str] = None
    overwrite: bool = False


def make_teacher(settings):
    """Make a SavedModel of a checkpoint: `serving_default` from float32 `(batch, bands, size, size)`, 0-1, as `input`,
    to float32 logits `(batch, categories)` as `output`.

    Args:
        settings: `Settings`.

    Returns:
        The side of the teacher's images in pixels, and the numbers of its logits and parameters.

    Raises:
        UsageError: the checkpoint can't be used, or the output exists.
        WorkError: arrays are missing, left over or not finite; the disk is full.
    """
    from lib.models.teacher_files import is_made_here, write_teacher
    from lib.models.torch_files import read_arrays
    from lib.system.devices import select_device

    output = settings.output
    if os.path.lexists(output) and not (settings.overwrite and is_made_here(output)):
        cure = f"{option('overwrite')} replaces it" if is_made_here(output) else "choose another one"
        raise UsageError(f"{output} already exists; {cure}.", "output")
    tensors = read_arrays(settings.checkpoint, settings.key)
    select_device(cpu=True)

    from lib.models.vit import build_vit, check_arrays, design_of, put_arrays

    normalization = NORMALIZATIONS[settings.normalize]
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    try:
        design = design_of(shapes, settings.heads)
        check_arrays(shapes, design)
        if design.bands != len(normalization[0]):
            wanted = f"teachers have {len(normalization[0])}"
            raise UsageError(f"{settings.checkpoint} is for images of {design.bands} bands; {wanted}.")
        log.info(
            f"A vision transformer for {design.size} x {design.size} pixels: patches of {design.patch}, width "
            f"{design.width}, {design.depth} blocks, {design.heads} heads, {design.categories:,} outputs from the "
            f"{'mean of all tokens' if design.mean else 'class token'}."
        )
        model = build_vit(design)
        put_arrays(model, design, lambda name: tensors[name].read())
    except WorkError as error:
        raise WorkError(f"{settings.checkpoint}: {error}") from error
    write_teacher(model, normalization, output, settings.overwrite)
    return design.size, design.categories, model.count_params()
