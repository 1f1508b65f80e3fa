#!/usr/bin/env python3
"""Search for the best augmentation and training settings: .keras and .tfr files in, optimization-log.tsv out.

Example: ./optimizeImagesR.py -a 17 -e 8 -i 50 -S 64 -l search -s student.keras -t a-train.tfr -v a-validation.tfr

With a teacher, -m, it is distilled into the student; without one, the student is trained on the records' categories.
distillOptimizeImagesR.py -l reads the log, whose path is the last line on stdout. Run the same command again to resume,
or with a higher -i to continue the search.
"""

import sys

from lib.cli.options import add_execution_options
from lib.cli.program import parser, run
from lib.cli.types import existing_file, output_directory, parsed, record_files, teacher, whole_number
from lib.training.hyperparameters import read_ranges
from lib.training.search import Settings


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add = made.add_argument_group("student, records and log").add_argument
    student = {"type": existing_file, "required": True, "metavar": "FILE"}
    add("-s", "--student", help="the .keras file to start from", **student)
    of_teacher = {"dest": "teacher", "type": teacher, "metavar": "DIR"}
    add("-m", "--model", help="a teacher: a SavedModel's directory or .keras file", **of_teacher)
    categories = {"dest": "categories", "type": whole_number(2), "required": True, "metavar": "COUNT"}
    add("-a", "--array", help="number of categories", **categories)
    files = {"type": record_files, "required": True, "metavar": "FILES"}
    add("-t", "--train", help="records: a file, list or glob", **files)
    add("-v", "--validate", help="the same for validation", **files)
    folder = {"dest": "output", "type": output_directory, "required": True, "metavar": "DIR"}
    add("-l", "--log", help="where optimization-log.tsv goes", **folder)
    add("--teacher-output", metavar="NAME", help="output to use of a SavedModel that has several (output)")

    add, side = made.add_argument_group("search").add_argument, {"type": whole_number(4, 8192), "metavar": "PIXELS"}
    count = {"type": whole_number(1), "metavar": "COUNT"}
    add("-i", "--iterations", help="settings to try (%(default)s)", **count)
    add("-e", "--epochs", help="maximum epochs of each (%(default)s)", **count)
    add("-I", "--image", dest="teacher_size", help="side of the teacher's images (%(default)s)", **side)
    add("-S", "--size", dest="student_size", help="side of the student's images (%(default)s)", **side)
    seed = {"dest": "seed", "type": whole_number(0, 2**32), "metavar": "SEED"}
    add("-r", "--random", help="seed (%(default)s)", **seed)
    ranges = "JSON: {key of the log: [lowest, highest]}"
    add("--ranges", type=lambda text: parsed(read_ranges)(existing_file(text)), metavar="FILE", help=ranges)
    add("--temperature-squared", action="store_true", help="multiply the loss by the temperature's square")
    add_execution_options(made, one_run=False)
    return made


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    from lib.training.search import search

    print(search(settings))


if __name__ == "__main__":
    sys.exit(main())
