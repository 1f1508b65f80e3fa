#!/usr/bin/env python3
"""Make a teacher of a PyTorch checkpoint: a vision transformer's .pth, .pt, .tar or .safetensors in, a SavedModel out.

Example: ./vitTeacher.py -c deit_base_patch16_224.pth -o teacher

What distillOptimizeImagesR.py -m takes. The checkpoint is read without PyTorch, and nothing in it is run.
"""

import sys

from lib import cli


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add(
        "-c",
        "--checkpoint",
        type=cli.existing_file,
        required=True,
        metavar="FILE",
        help="of PyTorch or .safetensors, in timm's naming",
    )
    add("-o", "--output", type=cli.output_directory, required=True, metavar="DIR", help="the SavedModel to make")
    add(
        "--normalize",
        choices=("imagenet", "half", "none"),
        default="imagenet",
        help="by what the images of its training were (imagenet, as DeiT's)",
    )
    add("--heads", type=cli.whole_number(1), metavar="COUNT", help="attention heads (one for each 64 of the width)")
    add("--key", metavar="NAME", help="which dictionary of the checkpoint has the arrays (the first that does)")
    add("--overwrite", action="store_true", help="replace a teacher that was made here before")
    return parser


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, argv)


def work(arguments):
    """Do what the command line says."""
    from lib.porting import port

    made = port(
        arguments.checkpoint,
        arguments.output,
        arguments.heads,
        arguments.key,
        arguments.normalize,
        arguments.overwrite,
        cli.report,
    )
    size = f"{made.size} x {made.size} pixels"
    print(f"{arguments.output}: {made.outputs:,} outputs, {size}, {made.parameters:,} parameters")


if __name__ == "__main__":
    sys.exit(main())
