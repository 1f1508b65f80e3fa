#!/usr/bin/env python3
"""Distil a teacher into a student on records: a SavedModel or .keras file and .tfr files in, a trained .keras file out.

Example: ./distillOptimizeImagesR.py -a 21000 -i 224 -S 224 -m teacher -o runs -s student.keras -t 3D-OFDB-train.tfr \
-v 3D-OFDB-test.tfr -l manual

The best row of optimization-log.tsv in -l gives the augmentation and training settings. Run the same command again to
resume. The last line on stdout is the path of the student with its best weights.
"""

import sys

from lib.cli import legacy as cli
from lib.cli.execution import add_options, execution_of
from lib.training.hyperparameters import best_row, read_log
from lib.training.student import MONITORS, Settings, distill


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    add = parser.add_argument_group("teacher, student and records").add_argument
    add("-m", "--model", type=cli.teacher, required=True, metavar="DIR", help="a SavedModel's directory or .keras file")
    add("-s", "--student", type=cli.existing_file, required=True, metavar="FILE", help="the .keras file to start from")
    add("-a", "--array", type=cli.whole_number(2), required=True, metavar="COUNT", help="number of categories")
    add("-t", "--train", type=cli.record_files, required=True, metavar="FILES", help="records: a file, list or glob")
    add("-v", "--validate", type=cli.record_files, required=True, metavar="FILES", help="the same for validation")
    add("-o", "--output", type=cli.existing_directory, required=True, metavar="DIR", help="the directory for all runs")
    add(
        "-l",
        "--log",
        type=cli.existing_directory,
        required=True,
        metavar="DIR",
        help="directory with optimization-log.tsv, the training settings",
    )
    add("--teacher-output", metavar="NAME", help="output to use of a SavedModel that has several (output)")

    add = parser.add_argument_group("training").add_argument
    side = cli.whole_number(4, 8192)
    add("-e", "--epochs", type=cli.whole_number(1), default=32, metavar="COUNT", help="maximum number of epochs (32)")
    add("-i", "--image", type=side, default=224, metavar="PIXELS", help="side of the teacher's images (224)")
    add("-S", "--size", type=side, default=64, metavar="PIXELS", help="side of the student's images (64)")
    add("-r", "--random", type=cli.whole_number(0, 2**32), default=123456789, metavar="SEED", help="seed (123456789)")
    add("--mixup", type=cli.number(0, 1), default=1.0, metavar="P", help="probability that an image is mixed (1)")
    add("--temperature-squared", action="store_true", help="multiply the loss by the temperature's square")
    add(
        "--monitor",
        choices=MONITORS,
        default=MONITORS[0],
        help="metric that selects the best epoch; training stops after 16 epochs without improvement (val_f1)",
    )
    add_options(parser)
    return parser


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, sys.argv[1:] if argv is None else argv)


def work(arguments):
    """Do what the command line says."""
    with cli.naming("-l/--log"):
        row = best_row(read_log(arguments.log))
    cli.report(f"Training with the settings of iteration {row.iteration} of the log (F1 {row.f1:g}).")
    settings = Settings(
        student=arguments.student,
        teacher=arguments.model,
        outputs=arguments.array,
        train=arguments.train,
        validate=arguments.validate,
        search=row.settings,
        teacher_output=arguments.teacher_output,
        teacher_size=arguments.image,
        student_size=arguments.size,
        mixup=arguments.mixup,
        temperature_squared=arguments.temperature_squared,
        epochs=arguments.epochs,
        monitor=arguments.monitor,
        seed=arguments.random,
        precision=arguments.precision,
        skip_bad=arguments.skip_bad,
    )
    student = distill(settings, arguments.output, execution_of(arguments), arguments.command_line, cli.report)
    if student is not None:
        print(student)


if __name__ == "__main__":
    sys.exit(main())
