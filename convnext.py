#!/usr/bin/env python3
"""Make a ConvNeXt with fresh weights: options in, a .keras file out.

Example: ./convnext.py -a 17 -i 96 -n 3:3:9:3 -x 96 -r 89178525 -o ConvNeXt-T.keras

The model takes images of any height and width, 0-255, and outputs one logit per category. The same options and seed
give the same weights. A summary goes to stderr; the file, its parameters and the cost per image go to stdout.
"""

import argparse
import dataclasses
import shutil
import sys

from lib.cli import legacy as cli

MOST_BLOCKS = 120  # with some more Keras, which follows a model from layer to layer, runs into Python's limit


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    count = {"type": cli.whole_number(1, 1_000_000), "metavar": "COUNT"}
    flag = {"action": "store_true"}
    add = parser.add_argument
    add("-a", "--array", dest="outputs", required=True, help="number of outputs (categories)", **count)
    add("-o", "--output", type=cli.output_model, required=True, metavar="FILE", help="the .keras file to write")
    add("-b", "--bands", default=3, help="image channels (3)", **count)
    side = cli.whole_number(4, 8192)
    add("-i", "--input", type=side, default=256, metavar="PIXELS", help="image side, recorded in the file (256)")
    seed = cli.whole_number(0, 2**32)
    add("-r", "--random", dest="seed", type=seed, default=123456789, metavar="SEED", help="seed (123456789)")
    add("--plot", type=picture, metavar="FILE", help="draw the model as .png or .svg; needs Graphviz")
    add = parser.add_argument_group("size").add_argument
    add("-x", "--filters", default=96, help="width of the first stage (96)", **count)
    shape = {"dest": "blocks", "type": blocks, "metavar": "A:B:C:D"}
    add("-n", "--next", default=(3, 3, 9, 3), help="blocks in each stage (3:3:9:3)", **shape)
    add("-e", "--expansion", default=4, help="how many times wider a block is inside (4)", **count)
    add("-p", "--polish", help="width of a dense layer before the output (none)", **count)
    add = parser.add_argument_group("parts").add_argument
    names = ["elu", "gelu", "relu", "selu", "swish"]
    add("-f", "--function", dest="activation", choices=names, default="gelu", help="activation function (gelu)")
    add("-c", "--channel", dest="excite_channels", help="channel squeeze-and-excitation after down-sampling", **flag)
    add("-s", "--spatial", dest="excite_space", help="spatial squeeze-and-excitation after down-sampling", **flag)
    add("-d", "--depthwise", action="store_false", help="ordinary instead of depthwise convolutions in the blocks")
    add("-g", "--gaussian", dest="noise", help="Gaussian noise at the end of each block, in training", **flag)
    add("-l", "--layer", dest="layer_scale", help="LayerScale: a learnt scale at the end of each block", **flag)
    add("-m", "--maxpool", dest="max_pool", help="max-pooling instead of strided convolutions between stages", **flag)
    return parser


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
    return cli.output_file(text)


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, argv)


def work(arguments):
    """Do what the command line says."""
    from lib.system.devices import enough_memory, select_device

    select_device(cpu=True)  # a GPU may be busy, and there is nothing to compute

    from lib.models.convnext import convnext, multiply_adds, summary
    from lib.models.keras_files import save_model
    from lib.storage.files import whole_file

    side = arguments.input
    with enough_memory("make the model smaller with -a, -b, -e, -n, -p or -x"):
        model = convnext(settings(arguments))
    model.image_size = side
    cli.report(summary(model, side))
    if arguments.plot:
        from lib.models.diagram import draw_model

        picture = draw_model(model, side, arguments.plot[-3:])
    save_model(model, arguments.output)
    if arguments.plot:
        with whole_file(arguments.plot, "wb") as file:
            file.write(picture)
    cost = sum(multiply_adds(model, side).values())
    size = f"{model.count_params():,} parameters, {cost:,} multiply-adds for an image of {side} x {side}"
    print(f"{arguments.output}: {size}")


def settings(arguments):
    """What the command line says of the model: each setting's option has its name as `dest`."""
    from lib.models.convnext import Settings

    return Settings(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Settings)})


if __name__ == "__main__":
    sys.exit(main())
