#!/usr/bin/env python3
"""Train a classifier on records: a .keras file and .tfr files in, a trained .keras file out.

Example: ./trainImagesC.py -a 17 -b 256 -i 96 -m tune-model.keras -o runs -t sample-train.tfr -v sample-validation.tfr

The run gets a directory below -o that is named after its settings and inputs. The same command again goes on where it
was stopped, by whatever, or says that it is complete. The last line on stdout is the path of the trained model: the one
of the epoch with the best macro F1 in validation. 256 epochs in a row without a better one end the run.
"""

import sys

from lib import cli
from lib.errors import UsageError
from lib.means import add_options, means_of
from lib.recipes import parse_class_numbers, parse_recipe, parse_weights

PATIENCE = 256  # epochs


def options(documentation=__doc__):
    """The command line's options, below a script's docstring."""
    parser = cli.parser(documentation)
    add = parser.add_argument_group("what is trained").add_argument
    add("-m", "--model", type=cli.existing_file, required=True, metavar="FILE", help="the .keras file to begin with")
    add("-a", "--array", type=cli.whole_number(2), required=True, metavar="COUNT", help="how many categories there are")
    add("-t", "--train", type=cli.record_files, required=True, metavar="FILES", help="records: a file, list or glob")
    add("-v", "--validate", type=cli.record_files, required=True, metavar="FILES", help="the same for validation")
    add("-o", "--output", type=cli.existing_directory, required=True, metavar="DIR", help="the directory of all runs")
    add("-n", "--numberMap", type=cli.existing_file, metavar="FILE", help="a TSV: old and new number of categories")
    add("-s", "--smooth", metavar="LAYER", help="train this layer and all after it; what is before stays as it is")
    add("-Q", "--quantity", action="store_true", help="save the model of each epoch, too, for a soup")
    add("--keep", type=cli.whole_number(1), metavar="COUNT", help="with -Q, keep only so many best ones")

    add = parser.add_argument_group("how it learns").add_argument
    add(
        "-f",
        "--function",
        type=cli.parsed(parse_recipe),
        default="ce+clr+aw",
        metavar="LOSS+clr+OPTIMIZER",
        help="losses: bel cbf cbs cbbs ccm ce cos fce la lab lw lwb mae mse nis; optimizers: a (Adam), aw (AdamW), sgd "
        "(ce+clr+aw)",
    )
    add("-b", "--batch", type=cli.whole_number(1), default=16, metavar="COUNT", help="images of a step (16)")
    add("-e", "--epochs", type=cli.whole_number(1), default=256, metavar="COUNT", help="at most so many (256)")
    add("-i", "--input", type=cli.whole_number(4, 8192), default=64, metavar="PIXELS", help="images' side (64)")
    share = cli.number(0, 1, ends=False)
    add("-l", "--learning", type=share, default=0.005, metavar="RATE", help="the highest learning rate (0.005)")
    add("-d", "--decay", type=share, default=0.0001, metavar="DECAY", help="weight decay of aw and sgd (0.0001)")
    add("-r", "--random", type=cli.whole_number(0, 2**32), default=123456789, metavar="SEED", help="seed (123456789)")

    add = parser.add_argument_group("losses and rare categories").add_argument
    numbers = cli.parsed(parse_class_numbers)
    add("-y", "--ycount", type=numbers, metavar="{0:10,…}", help="images of each category (those of -t)")
    add("-w", "--weight", type=numbers, metavar="{0:1.0,…}", help="what each category's loss is multiplied with")
    add("-A", "--alpha", type=cli.number(0, ends=False), default=0.25, metavar="α", help="of the focal loss fce (0.25)")
    add("-F", "--focal", type=cli.number(0, ends=False), default=2.0, metavar="γ", help="of the focal loss fce (2.0)")
    add("-B", "--beta", type=share, default=0.99, metavar="β", help="of the class-balanced losses (0.99)")
    add("-G", "--gamma", type=cli.number(0, 4, ends=False), default=1.0, metavar="γ", help="of cbf (1.0)")
    add("-T", "--Tau", type=cli.number(0, 10), default=0.0, metavar="τ", help="of the logit adjustment la, lab (0.0)")
    add(
        "-C",
        "--ccm",
        type=cli.parsed(parse_weights),
        default=(1.0, 1.0, 1.0),
        metavar="[…]",
        help="the three parts of ccm ([1.0,1.0,1.0])",
    )
    add("-q", "--remix", action="store_true", help="label mixed images in favour of rare categories")
    add("-k", "--kappa", type=cli.number(0, ends=False), default=1.0, metavar="κ", help="of remix (1.0)")
    add("-u", "--tau", type=cli.number(0, 1), default=0.0, metavar="τ", help="of remix (0.0)")
    add_options(parser)
    return parser


def main(argv=None, documentation=__doc__, patience=PATIENCE):
    """Run the script; returns its exit status."""
    return cli.run(
        options(documentation), lambda arguments: work(arguments, patience), sys.argv[1:] if argv is None else argv
    )


def work(arguments, patience):
    """Do what the command line says."""
    from lib.training import Settings, train

    if arguments.keep is not None and not arguments.quantity:
        raise UsageError("--keep: there are models to keep only with -Q/--quantity.")
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
    model = train(settings, arguments.output, means_of(arguments), arguments.command_line, cli.report)
    if model is not None:
        print(model)


if __name__ == "__main__":
    sys.exit(main())
