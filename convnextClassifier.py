#!/usr/bin/env python3
"""Put a pretrained encoder into a fresh classifier: two .keras files in, one out.

Example: ./convnextClassifier.py -e distilled/best-model.keras -m classifier.keras -o tune-model.keras

Each layer takes its weights from the encoder's layer of the same name and is frozen. The layers that depend on the
categories (output_gap, output_layerNormalization, gap_resolve_dense, output_dense, normalization) keep the model's
weights and stay trainable.
"""

import sys

from lib.cli import program as cli


def options():
    """The command line's options."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "-e",
        "--encoder",
        type=cli.existing_file,
        required=True,
        metavar="FILE",
        help="the .keras file to take weights from",
    )
    parser.add_argument(
        "-m",
        "--model",
        type=cli.existing_file,
        required=True,
        metavar="FILE",
        help="the .keras file of the fresh classifier",
    )
    parser.add_argument(
        "-o", "--output", type=cli.output_model, required=True, metavar="FILE", help="the .keras file to write"
    )
    parser.add_argument(
        "-s",
        "--standard",
        action="store_true",
        help="keep gap_resolve_dense fresh even if the encoder has a layer hidden_output for it",
    )
    parser.add_argument(
        "--partial", action="store_true", help="skip layers that don't fit, which are otherwise an error"
    )
    cli.add_device_options(parser, computes=False, parallel=False)
    return parser


def main(argv=None):
    """Run the script; returns its exit status."""
    return cli.run(options(), work, argv)


def work(arguments):
    """Do what the command line says."""
    from lib.system.devices import select_device

    select_device(cpu=True)  # a GPU may be busy, and there is nothing to compute

    from lib.models.keras_files import load_model, save_model
    from lib.models.transfer import check_transfer, move_weights

    with cli.naming("-e/--encoder"):
        encoder = load_model(arguments.encoder)
    with cli.naming("-m/--model"):
        model = load_model(arguments.model)
    transfer = move_weights(encoder, model, arguments.standard)
    for name, (theirs, ours) in transfer.unmoved.items():
        cli.report(f"{name}: {theirs or 'no weights'} in the encoder, {ours or 'no weights'} in the model")
    check_transfer(transfer, arguments.encoder, arguments.model, arguments.partial)
    save_model(model, arguments.output)
    print(
        f"{arguments.output}: {len(transfer.moved)} layers from the encoder, {len(transfer.fresh)} fresh, "
        f"{len(transfer.frozen)} frozen"
    )


if __name__ == "__main__":
    sys.exit(main())
