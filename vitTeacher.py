#!/usr/bin/env python3
"""Make a teacher from a PyTorch vision transformer: a .pth, .pt, .tar or .safetensors file in, a SavedModel out.

Example: ./vitTeacher.py -c deit_base_patch16_224.pth -o teacher

The SavedModel is for distillOptimizeImagesR.py -m. The checkpoint is read without PyTorch, and nothing in it is run.
"""

import sys

from lib.cli.program import parser, run
from lib.cli.types import existing_file, output_directory, whole_number
from lib.models.porting import NORMALIZATIONS, Settings


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add, required = made.add_argument, {"required": True}
    file = "a PyTorch or .safetensors file with timm's names"
    add("-c", "--checkpoint", type=existing_file, metavar="FILE", help=file, **required)
    add("-o", "--output", type=output_directory, metavar="DIR", help="the SavedModel to make", **required)
    images = "how its training images were normalised (%(default)s, as for DeiT)"
    add("--normalize", choices=tuple(NORMALIZATIONS), help=images)
    add("--heads", type=whole_number(1), metavar="COUNT", help="attention heads (one per 64 of the width)")
    add("--key", metavar="NAME", help="dictionary of the checkpoint that has the arrays (the first that does)")
    add("--overwrite", action="store_true", help="replace a teacher previously made here")
    return made


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    from lib.models.porting import make_teacher

    size, categories, parameters = make_teacher(settings)
    print(f"{settings.output}: {categories:,} outputs, {size} x {size} pixels, {parameters:,} parameters")


if __name__ == "__main__":
    sys.exit(main())
