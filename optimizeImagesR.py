#!/usr/bin/env python3
"""Search for the best augmentation and training settings: .keras and .tfr files in, optimization-log.tsv out.

Example: ./optimizeImagesR.py -a 17 -e 8 -i 50 -S 64 -l search -s student.keras -t a-train.tfr -v a-validation.tfr

With a teacher, -m, it is distilled into the student; without one, the student is trained on the records' categories.
distillOptimizeImagesR.py -l reads the log, whose path is the last line on stdout. Run the same command again to resume,
or with a higher -i to continue the search.
"""

import dataclasses
import os
import sys

from lib.cli import legacy as cli
from lib.cli.execution import add_options, execution_of
from lib.training.hyperparameters import ranges_of
from lib.training.student import INPUTS, Settings, distill_telling, fitting_ranges


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    add = parser.add_argument_group("student, records and log").add_argument
    add("-s", "--student", type=cli.existing_file, required=True, metavar="FILE", help="the .keras file to start from")
    add("-m", "--model", type=cli.teacher, metavar="DIR", help="a teacher: a SavedModel's directory or .keras file")
    add("-a", "--array", type=cli.whole_number(2), required=True, metavar="COUNT", help="number of categories")
    add("-t", "--train", type=cli.record_files, required=True, metavar="FILES", help="records: a file, list or glob")
    add("-v", "--validate", type=cli.record_files, required=True, metavar="FILES", help="the same for validation")
    add("-l", "--log", type=cli.output_directory, required=True, metavar="DIR", help="where optimization-log.tsv goes")
    add("--teacher-output", metavar="NAME", help="output to use of a SavedModel that has several (output)")

    add = parser.add_argument_group("search").add_argument
    side = cli.whole_number(4, 8192)
    add("-i", "--iterations", type=cli.whole_number(1), default=100, metavar="COUNT", help="settings to try (100)")
    add("-e", "--epochs", type=cli.whole_number(1), default=8, metavar="COUNT", help="maximum epochs of each (8)")
    add("-I", "--image", type=side, default=224, metavar="PIXELS", help="side of the teacher's images (224)")
    add("-S", "--size", type=side, default=64, metavar="PIXELS", help="side of the student's images (64)")
    add("-r", "--random", type=cli.whole_number(0, 2**32), default=123456789, metavar="SEED", help="seed (123456789)")
    add("--ranges", type=_ranges, default={}, metavar="FILE", help="JSON: {key of the log: [lowest, highest]}")
    add("--temperature-squared", action="store_true", help="multiply the loss by the temperature's square")
    add_options(parser, one_run=False)
    return parser


def _ranges(text):
    """An option's type: the ranges in a file."""
    path = cli.existing_file(text)

    def parse(path):
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            content = file.read()
        try:
            return ranges_of(content)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None

    return cli.parsed(parse)(path)


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, sys.argv[1:] if argv is None else argv)


def work(arguments):
    """Do what the command line says."""
    from lib.system.processes import call_in_child
    from lib.training.run import identify
    from lib.training.search import search

    settings = Settings(
        student=arguments.student,
        teacher=arguments.model,
        outputs=arguments.array,
        train=arguments.train,
        validate=arguments.validate,
        teacher_output=arguments.teacher_output,
        teacher_size=arguments.size if arguments.model is None else arguments.image,
        student_size=arguments.size,
        temperature_squared=arguments.temperature_squared,
        epochs=arguments.epochs,
        patience=arguments.epochs,
        seed=arguments.random,
        precision=arguments.precision,
        skip_bad=arguments.skip_bad,
    )
    execution = dataclasses.replace(execution_of(arguments), fresh=False)

    def train(hyperparameters, folder, watch):
        os.makedirs(folder, exist_ok=True)
        made = dataclasses.replace(settings, search=hyperparameters, mixup=hyperparameters.mixup)
        return call_in_child(distill_telling, (made, folder, execution, arguments.command_line), watch)

    os.makedirs(arguments.log, exist_ok=True)
    _, identity = identify(settings, INPUTS)
    print(
        search(
            arguments.log,
            arguments.iterations,
            fitting_ranges(settings, arguments.ranges),
            identity,
            arguments.random,
            train,
            arguments.fresh,
            cli.report,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
