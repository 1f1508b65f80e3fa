"""The architecture of a ConvNeXt, and the stage that makes one with fresh weights."""

import dataclasses
import logging
from typing import Optional, Tuple

from lib.errors import option

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The architecture of a ConvNeXt.

    Attributes:
        categories: number of logits.
        bands: channels of the images.
        filters: channels of the first stage; each further one has twice as many.
        blocks: number of blocks in each of the four stages.
        expansion: how many times wider a block is inside.
        activation: the name of an activation of Keras.
        depthwise: 5 × 5 depthwise convolutions in the blocks; else ordinary ones.
        max_pool: max-pooling and a 1 × 1 convolution between the stages; else a 2 × 2 convolution.
        excite_channels: channel squeeze-and-excitation after each of them (arXiv:1709.01507).
        excite_space: spatial squeeze-and-excitation (arXiv:1803.02579); with both, each is added to its input.
        layer_scale: LayerScale at the end of each block's branch (arXiv:2103.17239).
        noise: Gaussian noise at the end of each block's branch, in training.
        polish: the width of a dense layer before the last; None for none.
        seed: of the initial weights.
    """

    categories: int
    bands: int = 3
    filters: int = 96
    blocks: Tuple[int, int, int, int] = (3, 3, 9, 3)
    expansion: int = 4
    activation: str = "gelu"
    depthwise: bool = True
    max_pool: bool = False
    excite_channels: bool = False
    excite_space: bool = False
    layer_scale: bool = False
    noise: bool = False
    polish: Optional[int] = None
    seed: int = 123456789


@dataclasses.dataclass(frozen=True)
class Settings(Architecture):
    """An architecture and the files to write.

    Attributes:
        output: the `.keras` file to write; required.
        size: the side in pixels of the images that the model is for, which the file records.
        verbose: whether to log a table of its layers.
        plot: a `.png` or `.svg` file for a picture of the model; None for none.
    """

    output: Optional[str] = None
    size: int = 256
    verbose: bool = False
    plot: Optional[str] = None


def make_model(settings):
    """Write a ConvNeXt with fresh weights, and its picture if asked for.

    Args:
        settings: `Settings`.

    Returns:
        The numbers of the model's parameters and of its multiply-adds for one image.

    Raises:
        MemoryError: the model is larger than the memory.
        WorkError: Graphviz fails.
        OSError: a file can't be written.
    """
    from lib.system.devices import enough_memory, select_device

    select_device(cpu=True)  # a GPU may be busy, and there is nothing to compute

    from lib.models.convnext import convnext, multiply_adds, summary
    from lib.models.keras_files import save_model
    from lib.storage.files import whole_file

    smaller = ", ".join(map(option, ("categories", "bands", "expansion", "blocks", "polish")))
    with enough_memory(f"make the model smaller with {smaller} or {option('filters')}"):
        model = convnext(settings)
    model.image_size = settings.size
    if settings.verbose:
        log.info(summary(model, settings.size))
    if settings.plot:
        from lib.models.diagram import draw_model

        picture = draw_model(model, settings.size, settings.plot[-3:])
        with whole_file(settings.plot, "wb") as file:
            file.write(picture)
    save_model(model, settings.output)
    return model.count_params(), sum(multiply_adds(model, settings.size).values())
