#!/usr/bin/env python3
"""Make a teacher from a PyTorch vision transformer: a .pth, .pt, .tar or .safetensors file in, a SavedModel out.

Example: ./vitTeacher.py -c deit_base_patch16_224.pth -o teacher

The SavedModel is for distillOptimizeImagesR.py -m. The checkpoint is read without PyTorch, and nothing in it is run.
"""

import sys

from lib.cli import legacy as cli


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
        help="a PyTorch or .safetensors file with timm's names",
    )
    add("-o", "--output", type=cli.output_directory, required=True, metavar="DIR", help="the SavedModel to make")
    add(
        "--normalize",
        choices=("imagenet", "half", "none"),
        default="imagenet",
        help="how its training images were normalised (imagenet, as for DeiT)",
    )
    add("--heads", type=cli.whole_number(1), metavar="COUNT", help="attention heads (one per 64 of the width)")
    add("--key", metavar="NAME", help="dictionary of the checkpoint that has the arrays (the first that does)")
    add("--overwrite", action="store_true", help="replace a teacher previously made here")
    return parser


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, argv)


def work(arguments):
    """Do what the command line says."""
    from lib.models.porting import port

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
