#!/usr/bin/env python3
"""Evaluate a model on records that it was not trained on: a .keras file and .tfr files in, metrics out.

Example: ./testImages.py -a 17 -b 256 -m soup-model.keras -t sample-96-test.tfr --figures figures

Four lines go to stdout; confidence intervals and per-category metrics go to stderr.
"""

import sys

from lib.cli import legacy as cli
from lib.errors import UsageError
from lib.measures.recipes import cover, parse_class_numbers
from lib.prediction import views


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add("-m", "--model", type=cli.existing_file, required=True, metavar="FILE", help="the .keras file to evaluate")
    add("-a", "--array", type=cli.whole_number(2), required=True, metavar="COUNT", help="number of categories")
    add("-t", "--test", type=cli.record_files, required=True, metavar="FILES", help="records: a file, list or glob")
    add("-n", "--numberMap", type=cli.existing_file, metavar="FILE", help="a TSV: old and new category numbers")
    numbers = cli.parsed(parse_class_numbers)
    add("-w", "--weight", type=numbers, metavar="{0:1.0,…}", help="weight of an image of each category (1)")
    add(
        "-b",
        "--batch",
        type=cli.whole_number(1),
        default=64,
        metavar="COUNT",
        help="maximum number of images at once (64)",
    )
    add(
        "-i",
        "--input",
        type=cli.whole_number(1),
        default=64,
        metavar="PIXELS",
        help=cli.IGNORED,
    )
    add("--compare", type=cli.existing_file, metavar="FILE", help="compare with another .keras file on the same images")
    add("--labels", type=cli.existing_file, metavar="FILE", help="a TSV with the categories' INDEX and LABEL")
    cli.add_skip_option(parser)
    group = parser.add_argument_group("files to write")
    add = group.add_argument
    add("-e", "--error", type=cli.output_file, metavar="FILE", help=".npz: predictions, labels, confusion matrix")
    add("-u", "--under", type=cli.output_file, metavar="FILE", help=".npz: softmax values as predictions, labels")
    add("--table", type=cli.output_file, metavar="FILE", help="the per-category table, .tsv, instead of on stderr")
    add("--json", type=cli.output_file, metavar="FILE", help="all metrics")
    add("--figures", type=cli.output_directory, metavar="DIR", help="figures: confusion matrix, curves, mistakes")
    views.add_report_options(group)
    cli.add_device_options(parser)
    return parser


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, argv)


def work(arguments):
    """Do what the command line says."""
    from lib.data.categories import labels_of_outputs
    from lib.evaluation import evaluate as evaluation

    weights = None
    if arguments.weight is not None:
        try:
            weights = cover(arguments.weight, arguments.array)
        except ValueError as error:
            raise UsageError(f"-w/--weight: it {error}.") from None
    with cli.naming("--labels"):
        labels = labels_of_outputs(arguments.array, arguments.model, arguments.labels)
    models = [("-m/--model", arguments.model)]
    if arguments.compare:
        models.append(("--compare", arguments.compare))
    answers = evaluation.answer_records(
        models,
        arguments.test,
        arguments.array,
        arguments.numberMap,
        arguments.batch,
        arguments.cpu,
        arguments.gpu,
        arguments.processors,
        arguments.skip_bad,
        cli.report,
    )
    found = evaluation.evaluate(answers[0], labels, weights)
    comparison = evaluation.compare_answers(*answers, weights) if arguments.compare else None
    print("\n".join(evaluation.four_lines(found)))
    if arguments.error:
        chosen = {"predictions": answers[0].chosen, "labels": answers[0].labels}
        evaluation.write_arrays(arguments.error, **chosen, matrix=found.matrix)
    if arguments.under:
        probabilities = answers[0].probabilities.astype("float32")
        evaluation.write_arrays(arguments.under, predictions=probabilities, labels=answers[0].labels)
    if arguments.table:
        evaluation.write_table(arguments.table, found)
    else:
        cli.report(evaluation.table_of(found).rstrip("\n"))
    cli.report("\n".join(evaluation.words_of(found, comparison, (arguments.model, arguments.compare))))
    if arguments.json:
        about = {"model": arguments.model, "records": list(arguments.test), "images": len(answers[0].labels)}
        about["left_out"] = list(answers[0].images.records.skipped)
        about.update({"compared_with": arguments.compare} if arguments.compare else {})
        evaluation.write_json(arguments.json, found, about, comparison)
    if arguments.figures:
        evaluation.draw(arguments.figures, found, answers[0], labels, weights)
    if arguments.report:
        from lib.evaluation.report import report_answers

        more = arguments.report_images, weights is not None, arguments.processors
        report_answers(arguments.report, arguments.model, answers[0], found, labels, *more)


if __name__ == "__main__":
    sys.exit(main())
