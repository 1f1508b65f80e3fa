#!/usr/bin/env python3
"""Distil a teacher into a student on records: a SavedModel or .keras file and .tfr files in, a trained .keras file out.

Example: ./distillOptimizeImagesR.py -a 21000 -i 224 -S 224 -m teacher -o runs -s student.keras -t 3D-OFDB-train.tfr \
-v 3D-OFDB-test.tfr -l manual

The best row of optimization-log.tsv in -l gives the augmentation and training settings. Run the same command again to
resume. The last line on stdout is the path of the student with its best weights.
"""

import sys

from lib.cli.options import add_execution_options
from lib.cli.program import parser, run
from lib.cli.types import (
    existing_directory,
    existing_file,
    number,
    output_directory,
    record_files,
    teacher,
    whole_number,
)
from lib.training.student import MONITORS, Settings


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add = made.add_argument_group("teacher, student and records").add_argument
    of_teacher = {"dest": "teacher", "type": teacher, "required": True, "metavar": "DIR"}
    add("-m", "--model", help="a SavedModel's directory or .keras file", **of_teacher)
    student = {"type": existing_file, "required": True, "metavar": "FILE"}
    add("-s", "--student", help="the .keras file to start from", **student)
    categories = {"dest": "categories", "type": whole_number(2), "required": True, "metavar": "COUNT"}
    add("-a", "--array", help="number of categories", **categories)
    files = {"type": record_files, "required": True, "metavar": "FILES"}
    add("-t", "--train", help="records: a file, list or glob", **files)
    add("-v", "--validate", help="the same for validation", **files)
    folder = {"type": existing_directory, "required": True, "metavar": "DIR"}
    add("-o", "--output", help="the directory for all runs", **{**folder, "type": output_directory})
    add("-l", "--log", help="directory with optimization-log.tsv, the training settings", **folder)
    add("--teacher-output", metavar="NAME", help="output to use of a SavedModel that has several (output)")

    add, side = made.add_argument_group("training").add_argument, {"type": whole_number(4, 8192), "metavar": "PIXELS"}
    epochs = "maximum number of epochs (%(default)s)"
    add("-e", "--epochs", type=whole_number(1), metavar="COUNT", help=epochs)
    add("-i", "--image", dest="teacher_size", help="side of the teacher's images (%(default)s)", **side)
    add("-S", "--size", dest="student_size", help="side of the student's images (%(default)s)", **side)
    seed = {"dest": "seed", "type": whole_number(0, 2**32), "metavar": "SEED"}
    add("-r", "--random", help="seed (%(default)s)", **seed)
    add("--mixup", type=number(0, 1), metavar="P", help="probability that an image is mixed (%(default)s)")
    add("--temperature-squared", action="store_true", help="multiply the loss by the temperature's square")
    stops = f"training stops after {Settings.patience} epochs without improvement"
    add("--monitor", choices=MONITORS, help=f"metric that selects the best epoch; {stops} (%(default)s)")
    add_execution_options(made)
    return made


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    from lib.training.student import distill

    student = distill(settings)
    if student is not None:
        print(student)


if __name__ == "__main__":
    sys.exit(main())
