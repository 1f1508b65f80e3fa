#!/usr/bin/env python3
"""Train a classifier on records: a .keras file and .tfr files in, a trained .keras file out.

Example: ./trainImagesC.py -a 17 -b 256 -i 96 -m tune-model.keras -o runs -t sample-train.tfr -v sample-validation.tfr

The run gets a directory in -o that is named after its settings and inputs. Run the same command again to resume
wherever it was interrupted; a complete run is reported as such. The last line on stdout is the path of the trained
model, with the weights of the epoch with the best validation macro F1. Training stops after 256 epochs in a row without
improvement.
"""

import sys

from lib.cli import legacy as cli
from lib.cli.execution import add_options, execution_of
from lib.cli.types import class_numbers, loss_weights
from lib.errors import UsageError
from lib.measures.recipes import parse_recipe

PATIENCE = 256  # epochs


def options(documentation=__doc__):
    """The command line's options, below a script's docstring."""
    parser = cli.parser(documentation)
    add = parser.add_argument_group("model and records").add_argument
    add("-m", "--model", type=cli.existing_file, required=True, metavar="FILE", help="the .keras file to start from")
    add("-a", "--array", type=cli.whole_number(2), required=True, metavar="COUNT", help="number of categories")
    add("-t", "--train", type=cli.record_files, required=True, metavar="FILES", help="records: a file, list or glob")
    add("-v", "--validate", type=cli.record_files, required=True, metavar="FILES", help="the same for validation")
    add("-o", "--output", type=cli.existing_directory, required=True, metavar="DIR", help="the directory for all runs")
    add("-n", "--numberMap", type=cli.existing_file, metavar="FILE", help="a TSV: old and new category numbers")
    add("-s", "--smooth", metavar="LAYER", help="train this layer and all after it; freeze those before")
    add("-Q", "--quantity", action="store_true", help="also save the model of each epoch, for a soup")
    add("--keep", type=cli.whole_number(1), metavar="COUNT", help="with -Q, keep only this many, the best")

    add = parser.add_argument_group("training").add_argument
    add(
        "-f",
        "--function",
        type=cli.parsed(parse_recipe),
        default="ce+clr+aw",
        metavar="LOSS+clr+OPTIMIZER",
        help="losses: bel cbf cbs cbbs ccm ce cos fce la lab lw lwb mae mse nis; optimizers: a (Adam), aw (AdamW), sgd "
        "(ce+clr+aw)",
    )
    add("-b", "--batch", type=cli.whole_number(1), default=16, metavar="COUNT", help="images per step (16)")
    add("-e", "--epochs", type=cli.whole_number(1), default=256, metavar="COUNT", help="maximum number of epochs (256)")
    add("-i", "--input", type=cli.whole_number(4, 8192), default=64, metavar="PIXELS", help="side of the images (64)")
    share, above_0, below_4 = (cli.number(0, most, ends=False) for most in (1, None, 4))
    rate = "maximum learning rate (0.005, between 0 and 1)"
    add("-l", "--learning", type=share, default=0.005, metavar="RATE", help=rate)
    decay = "weight decay of aw and sgd (0.0001, between 0 and 1)"
    add("-d", "--decay", type=share, default=0.0001, metavar="DECAY", help=decay)
    add("-r", "--random", type=cli.whole_number(0, 2**32), default=123456789, metavar="SEED", help="seed (123456789)")

    add = parser.add_argument_group("losses and rare categories").add_argument
    numbers = class_numbers
    add("-y", "--ycount", type=numbers, metavar="{0:10,…}", help="images in each category (those of -t)")
    add("-w", "--weight", type=numbers, metavar="{0:1.0,…}", help="weight of each category's loss")
    add("-A", "--alpha", type=above_0, default=0.25, metavar="α", help="of the focal loss fce (0.25, above 0)")
    add("-F", "--focal", type=above_0, default=2.0, metavar="γ", help="of the focal loss fce (2.0, above 0)")
    add("-B", "--beta", type=share, default=0.99, metavar="β", help="of class-balanced losses (0.99, between 0 and 1)")
    add("-G", "--gamma", type=below_4, default=1.0, metavar="γ", help="of cbf (1.0, between 0 and 4)")
    add("-T", "--Tau", type=cli.number(0, 10), default=0.0, metavar="τ", help="of la, lab, bel (0.0, from 0 to 10)")
    parts = {"type": loss_weights, "default": (1.0, 1.0, 1.0), "metavar": "[…]"}
    add("-C", "--ccm", help="weights of the three parts of ccm ([1.0,1.0,1.0])", **parts)
    add("-q", "--remix", action="store_true", help="label mixed images in favour of rare categories")
    add("-k", "--kappa", type=above_0, default=1.0, metavar="κ", help="of remix (1.0, above 0)")
    add("-u", "--tau", type=cli.number(0, 1), default=0.0, metavar="τ", help="of remix (0.0, from 0 to 1)")
    add_options(parser)
    return parser


def main(argv=None, documentation=__doc__, patience=PATIENCE):
    """Run the script; returns its exit status."""
    return cli.run(
        options(documentation), lambda arguments: work(arguments, patience), sys.argv[1:] if argv is None else argv
    )


def work(arguments, patience):
    """Do what the command line says."""
    from lib.training.classifier import Settings, train

    if arguments.keep is not None and not arguments.quantity:
        raise UsageError("--keep: it needs -Q/--quantity.")
    settings = Settings(
        model=arguments.model,
        outputs=arguments.array,
        train=arguments.train,
        validate=arguments.validate,
        number_map=arguments.numberMap,
        recipe=arguments.function,
        batch=arguments.batch,
        epochs=arguments.epochs,
        patience=patience,
        size=arguments.input,
        learning_rate=arguments.learning,
        decay=arguments.decay,
        focal_alpha=arguments.alpha,
        focal_gamma=arguments.focal,
        beta=arguments.beta,
        gamma=arguments.gamma,
        tau=arguments.Tau,
        ccm=arguments.ccm,
        class_counts=arguments.ycount,
        class_weights=arguments.weight,
        remix=arguments.remix,
        remix_kappa=arguments.kappa,
        remix_tau=arguments.tau,
        first=arguments.smooth,
        seed=arguments.random,
        precision=arguments.precision,
        skip_bad=arguments.skip_bad,
        save_epochs=arguments.quantity,
        keep=arguments.keep,
    )
    model = train(settings, arguments.output, execution_of(arguments), arguments.command_line, cli.report)
    if model is not None:
        print(model)


if __name__ == "__main__":
    sys.exit(main())
