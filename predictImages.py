#!/usr/bin/env python3
"""Categorise the images in a folder and its subfolders: a folder of images in, a table and pages out.

Example: ./predictImages.py -d scans -o predictions.tsv --report predictions.html

Run the same command again to resume, or after adding images. Files that can't be read as images are listed with the
reason in OUTPUT.errors.tsv, never in the table.
"""

import sys

from lib.cli import legacy as cli
from lib.data import shards
from lib.prediction import views


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    required = "required, unless --report-from, --similar or --merge takes their place"
    add = parser.add_argument_group(required).add_argument
    add("-d", "--data", type=cli.existing_directory, metavar="DIR", help="the folder of images, or give --list")
    table = "the table to write; its ending sets the format: .tsv, .csv or .jsonl"
    add("-o", "--output", type=cli.output_file, metavar="FILE", help=table)
    add = parser.add_argument_group("model").add_argument
    add(
        "-m",
        "--model",
        default="ConvNeXt-N",
        metavar="MODEL",
        help="ConvNeXt-N (downloaded if missing), ConvNeXt-T, or the path of a .keras file (ConvNeXt-N)",
    )
    add(
        "--models",
        metavar="DIR",
        help="where the published models are kept ($HERBARIOGRAPH_MODELS, else ~/.cache/herbariograph)",
    )
    labels = (
        "a TSV with INDEX and LABEL of its outputs (categories.tsv beside a file, else the 17 published categories)"
    )
    add("--labels", type=cli.existing_file, metavar="FILE", help=labels)
    add = parser.add_argument_group("table").add_argument
    add(
        "--top",
        type=cli.whole_number(1),
        metavar="K",
        help="give the K most probable categories (that of an existing table, else 1; 2 with --report)",
    )
    add("--probabilities", action="store_true", help="give the probability of every category")
    add("--overwrite", action="store_true", help="start over instead of continuing the existing table")
    add("--strict", action="store_true", help="exit with status 1 if any file can't be read as an image")
    views.add_options(parser)
    shards.add_options(parser)
    add = parser.add_argument_group("images").add_argument
    add("--exact", action="store_true", help="the published pipeline's pixels: slower, EXIF orientation ignored")
    count = {"type": cli.whole_number(1), "metavar": "COUNT"}
    add("--max-pixels", default=500_000_000, help="refuse larger pictures (500000000)", **count)
    add("-b", "--batch", default=1024, help="maximum number of images to hold in memory (1024)", **count)
    cli.add_device_options(parser)
    return parser


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, argv)


def work(arguments):
    """Do what the command line says."""
    predicting = views.check(arguments)
    if predicting or arguments.similar:
        from lib.models.published import check_model_name

        check_model_name(arguments.model, arguments.models)
    errors = predict(arguments) if predicting else ()
    table, limits = arguments.report_from or arguments.output, (arguments.max_pixels, arguments.processors)
    if arguments.merge:
        table, *parts = arguments.merge
        done, errors = shards.merge_tables(table, parts, arguments.overwrite)
        cli.report(views.summary(done, errors, table))
    if arguments.report:
        from lib.prediction.reporting import report_table

        report_table(table, arguments.report, arguments.report_images, arguments.labels, *limits, report=cli.report)
    if arguments.sort:
        from lib.prediction.reporting import sort_table

        kind = "copy" if arguments.copy else "hardlink" if arguments.hardlink else "link"
        sort_table(table, arguments.sort, kind, report=cli.report)
    if arguments.similar:
        from lib.prediction.predict import similar_images

        which = arguments.similar, arguments.embeddings, arguments.top or 10, arguments.model, arguments.models
        found = similar_images(*which, arguments.max_pixels, arguments.cpu, arguments.gpu)
        print("\n".join(["FILE\tSIMILARITY", *(f"{name}\t{cosine:.4f}" for name, cosine in found)]))
    return 1 if errors and arguments.strict else 0


def predict(arguments):
    """Categorise the images; returns the errors."""
    from lib.prediction import predict as prediction

    done, errors = prediction.predict(
        arguments.data,
        arguments.model,
        arguments.output,
        models=arguments.models,
        labels_file=arguments.labels,
        batch=arguments.batch,
        exact=arguments.exact,
        max_pixels=arguments.max_pixels,
        top=arguments.top,
        probabilities=arguments.probabilities,
        overwrite=arguments.overwrite,
        runners_up=arguments.report is not None,
        embeddings=arguments.embeddings,
        list_file=arguments.list,
        shard=arguments.shard,
        cpu=arguments.cpu,
        gpu=arguments.gpu,
        processors=arguments.processors,
        report=cli.report,
    )
    cli.report(views.summary(done, len(errors), arguments.output))
    return errors


if __name__ == "__main__":
    sys.exit(main())
