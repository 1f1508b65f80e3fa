#!/usr/bin/env python3
"""Make a ConvNeXt with fresh weights: options in, a .keras file out.

Example: ./convnext.py -a 17 -i 96 -n 3:3:9:3 -x 96 -r 89178525 -o ConvNeXt-T.keras

The model takes images of any height and width, 0-255, and outputs one logit per category. The same options and seed
give the same weights. A summary goes to stderr; the file, its parameters and the cost per image go to stdout.
"""

import argparse
import shutil
import sys

from lib.cli.program import parser, run
from lib.cli.types import output_file, output_model, whole_number
from lib.models.architecture import Settings

MOST_BLOCKS = 120  # Keras, which follows a model from layer to layer, runs into Python's recursion limit beyond that


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    count = {"type": whole_number(1, 1_000_000), "metavar": "COUNT"}
    flag = {"action": "store_true"}
    add = made.add_argument
    add("-a", "--array", dest="categories", required=True, help="number of outputs (categories)", **count)
    add("-o", "--output", type=output_model, required=True, metavar="FILE", help="the .keras file to write")
    add("-b", "--bands", help="image channels (%(default)s)", **count)
    side = {"dest": "size", "type": whole_number(4, 8192), "metavar": "PIXELS"}
    add("-i", "--input", help="image side, recorded in the file (%(default)s)", **side)
    seed = {"dest": "seed", "type": whole_number(0, 2**32), "metavar": "SEED"}
    add("-r", "--random", help="seed (%(default)s)", **seed)
    add("--verbose", action="store_true", help="list all layers on stderr")
    add("--plot", type=picture, metavar="FILE", help="draw the model as .png or .svg; needs Graphviz")
    add = made.add_argument_group("size").add_argument
    add("-x", "--filters", help="width of the first stage (%(default)s)", **count)
    shape = {"dest": "blocks", "type": blocks, "metavar": "A:B:C:D"}
    add("-n", "--next", help=f"blocks in each stage ({':'.join(map(str, Settings.blocks))})", **shape)
    add("-e", "--expansion", help="how many times wider a block is inside (%(default)s)", **count)
    add("-p", "--polish", help="width of a dense layer before the output (none)", **count)
    add = made.add_argument_group("parts").add_argument
    names = ["elu", "gelu", "relu", "selu", "swish"]
    add("-f", "--function", dest="activation", choices=names, help="activation function (%(default)s)")
    add("-c", "--channel", dest="excite_channels", help="channel squeeze-and-excitation after down-sampling", **flag)
    add("-s", "--spatial", dest="excite_space", help="spatial squeeze-and-excitation after down-sampling", **flag)
    add("-d", "--depthwise", action="store_false", help="ordinary instead of depthwise convolutions in the blocks")
    add("-g", "--gaussian", dest="noise", help="Gaussian noise at the end of each block, in training", **flag)
    add("-l", "--layer", dest="layer_scale", help="LayerScale: a learnt scale at the end of each block", **flag)
    add("-m", "--maxpool", dest="max_pool", help="max-pooling instead of strided convolutions between stages", **flag)
    return made


def blocks(text):
    """An option's type: the blocks of the four stages."""
    counts = text.split(":")
    if len(counts) != 4 or not all(count.isascii() and count.isdigit() and int(count) for count in counts):
        raise argparse.ArgumentTypeError(f"{text!r} is not four whole numbers of 1 or more, such as 3:3:9:3")
    if sum(map(int, counts)) > MOST_BLOCKS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {MOST_BLOCKS} blocks in total")
    return tuple(int(count) for count in counts)


def picture(text):
    """An option's type: a picture to be drawn by Graphviz."""
    if not text.endswith((".png", ".svg")):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .png or .svg")
    if shutil.which("dot") is None:
        raise argparse.ArgumentTypeError("drawing needs Graphviz, whose program dot is not on the PATH")
    return output_file(text)


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    from lib.models.architecture import make_model

    parameters, multiply_adds = make_model(settings)
    cost = f"{multiply_adds:,} multiply-adds for an image of {settings.size} x {settings.size}"
    print(f"{settings.output}: {parameters:,} parameters, {cost}")


if __name__ == "__main__":
    sys.exit(main())
