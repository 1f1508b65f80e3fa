#!/usr/bin/env python3
"""Train a classifier on records: a .keras file and .tfr files in, a trained .keras file out.

Example: ./trainImagesC.py -a 17 -b 256 -i 96 -m tune-model.keras -o runs -t sample-train.tfr -v sample-validation.tfr

The run gets a directory in -o that is named after its settings and inputs. Run the same command again to resume
wherever it was interrupted; a complete run is reported as such. The last line on stdout is the path of the trained
model, with the weights of the epoch with the best validation macro F1. Training stops after 256 epochs in a row without
improvement.
"""

import sys

from lib.cli.options import add_execution_options
from lib.cli.program import Collected, parser, run
from lib.cli.types import (
    class_numbers,
    existing_file,
    loss_weights,
    number,
    output_directory,
    parsed,
    record_files,
    whole_number,
)
from lib.measures.losses import LOSSES, losses_with
from lib.measures.recipes import check_recipe
from lib.training.classifier import Settings
from lib.training.hyperparameters import AUGMENTATION_KEYS, PRESETS, parse_augmentation

FUNCTIONS = f"losses: {' '.join(LOSSES)}; optimizers: a (Adam), aw (AdamW), sgd (%(default)s)"

AUGMENTATIONS = (
    f"{' or '.join(PRESETS)}, or KEY=NUMBER,… or both, separated by commas (published); "
    f"keys: {' '.join(AUGMENTATION_KEYS)}"
)


def options(documentation=__doc__):
    """The command line's options, below a script's docstring."""
    made = parser(documentation, Settings)
    add_files(made)
    add_training(made)
    add_losses(made)
    add_execution_options(made)
    return made


def add_files(made):
    """Add what is trained, and on what."""
    add = made.add_argument_group("model and records").add_argument
    file, files = {"type": existing_file, "metavar": "FILE"}, {"type": record_files, "metavar": "FILES"}
    add("-m", "--model", required=True, help="the .keras file to start from", **file)
    categories = {"dest": "categories", "type": whole_number(2), "metavar": "COUNT"}
    add("-a", "--array", required=True, help="number of categories", **categories)
    add("-t", "--train", required=True, help="records: a file, list or glob", **files)
    add("-v", "--validate", required=True, action=Collected, help="the same for validation", **files)
    add("-o", "--output", type=output_directory, required=True, metavar="DIR", help="the directory for all runs")
    add("-n", "--numberMap", dest="number_map", help="a TSV: old and new category numbers", **file)
    layer = "train this layer and all after it; freeze those before"
    add("-s", "--smooth", dest="train_from", metavar="LAYER", help=layer)
    models = "also save the model of each epoch, for a soup"
    add("-Q", "--quantity", dest="save_epochs", action="store_true", help=models)
    add("--keep", type=whole_number(1), metavar="COUNT", help="with -Q, keep only this many, the best")


def add_training(made):
    """Add how it is trained."""
    add, count = made.add_argument_group("training").add_argument, whole_number(1)
    recipe = {"dest": "recipe", "type": parsed(check_recipe), "metavar": "LOSS+clr+OPTIMIZER"}
    add("-f", "--function", help=FUNCTIONS, **recipe)
    add("-b", "--batch", type=count, metavar="COUNT", help="images per step (%(default)s)")
    add("-e", "--epochs", type=count, metavar="COUNT", help="maximum number of epochs (%(default)s)")
    augment = {"type": parsed(parse_augmentation), "metavar": "RECIPE"}
    add("--augment", help=AUGMENTATIONS, **augment)
    side = {"dest": "size", "type": whole_number(4, 8192), "metavar": "PIXELS"}
    add("-i", "--input", help="side of the images (the model's own)", **side)
    share = number(0, 1, ends=False)
    rate = "maximum learning rate (%(default)s, between 0 and 1)"
    add("-l", "--learning", dest="learning_rate", type=share, metavar="RATE", help=rate)
    add("-d", "--decay", type=share, metavar="DECAY", help="weight decay of aw and sgd (%(default)s, between 0 and 1)")
    seed = {"dest": "seed", "type": whole_number(0, 2**32), "metavar": "SEED"}
    add("-r", "--random", help="seed (%(default)s)", **seed)


def add_losses(made):
    """Add the parameters of losses and of remix."""
    add, numbers = made.add_argument_group("losses and rare categories").add_argument, class_numbers
    share, above_0, below_4 = (number(0, most, ends=False) for most in (1, float("inf"), 4))
    counts, weights = "images in each category (those of -t)", "weight of each category's loss"
    add("-y", "--ycount", dest="class_counts", type=numbers, metavar="{0:10,…}", help=counts)
    add("-w", "--weight", dest="class_weights", type=numbers, metavar="{0:1.0,…}", help=weights)

    def parameter(dest, of_type, metavar, limits):
        told = f"of {' '.join(losses_with(dest))} (%(default)s, {limits})"
        return {"dest": dest, "type": of_type, "metavar": metavar, "help": told}

    add("-A", "--alpha", **parameter("focal_alpha", above_0, "α", "above 0"))
    add("-F", "--focal", **parameter("focal_gamma", above_0, "γ", "above 0"))
    add("-B", "--beta", **parameter("beta", share, "β", "between 0 and 1"))
    add("-G", "--gamma", **parameter("gamma", below_4, "γ", "between 0 and 4"))
    add("-T", "--Tau", **parameter("tau", number(0, 10), "τ", "from 0 to 10"))
    parts = f"weights of the three parts of ccm ([{','.join(map(str, Settings.ccm))}])"
    add("-C", "--ccm", type=loss_weights, metavar="[…]", help=parts)
    add("-q", "--remix", action="store_true", help="label mixed images in favour of rare categories")
    kappa, tau = {"dest": "remix_kappa", "type": above_0}, {"dest": "remix_tau", "type": number(0, 1)}
    add("-k", "--kappa", metavar="κ", help="of remix (%(default)s, above 0)", **kappa)
    add("-u", "--tau", metavar="τ", help="of remix (%(default)s, from 0 to 1)", **tau)


def main(argv=None, documentation=__doc__, patience=Settings.patience):
    """Run the script; returns its exit status."""
    made = options(documentation)
    made.set_defaults(patience=patience)
    return run(made, work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    from lib.training.classifier import train

    model = train(settings)
    if model is not None:
        print(model)


if __name__ == "__main__":
    sys.exit(main())
