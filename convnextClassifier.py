#!/usr/bin/env python3
"""Put a pretrained encoder into a fresh classifier: two .keras files in, one out.

Example: ./convnextClassifier.py -e distilled/best-model.keras -m classifier.keras -o tune-model.keras

Each layer takes its weights from the encoder's layer of the same name and is frozen. The layers that depend on the
categories (output_gap, output_layerNormalization, gap_resolve_dense, output_dense, normalization) keep the model's
weights and stay trainable.
"""

import sys

from lib.cli.options import add_device_options
from lib.cli.program import parser, run
from lib.cli.types import existing_file, output_model
from lib.models.transfer import Settings


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add, file = made.add_argument, {"required": True, "metavar": "FILE"}
    add("-e", "--encoder", type=existing_file, help="the .keras file to take weights from", **file)
    add("-m", "--model", type=existing_file, help="the .keras file of the fresh classifier", **file)
    add("-o", "--output", type=output_model, help="the .keras file to write", **file)
    fresh = "keep gap_resolve_dense fresh even if the encoder has a layer hidden_output for it"
    add("-s", "--standard", action="store_true", help=fresh)
    add("--partial", action="store_true", help="skip layers that don't fit, which are otherwise an error")
    add_device_options(made, computes=False, parallel=False)
    return made


def main(argv=None):
    """Run the script; returns its exit status."""
    return run(options(), work, Settings, argv)


def work(settings):
    """Do what the settings say."""
    from lib.models.transfer import make_classifier

    transfer = make_classifier(settings)
    print(
        f"{settings.output}: {len(transfer.moved)} layers from the encoder, {len(transfer.fresh)} fresh, "
        f"{len(transfer.frozen)} frozen"
    )


if __name__ == "__main__":
    sys.exit(main())
