"""How the machine is used by a stage that trains: options that its result does not follow from."""

import dataclasses
from typing import Optional, Tuple

from lib.cli import legacy as cli


@dataclasses.dataclass(frozen=True)
class Execution:
    """How the machine is used; nothing that the result follows from, but for rounding.

    Attributes:
        cpu, gpus, processors: see `lib.system.distribution.start_team`.
        cache: see `lib.data.records.load_images`.
        deterministic: whether each run gives the same bits.
        fresh: whether to forget an earlier run.
        steps_per_execution, jit, tensorboard, evaluate_first: see `lib.training.loop.Conduct`.
    """

    cpu: bool = False
    gpus: Tuple[int, ...] = (0,)
    processors: Optional[int] = None
    cache: Optional[str] = None
    deterministic: bool = False
    fresh: bool = False
    steps_per_execution: int = 1
    jit: bool = False
    tensorboard: bool = False
    evaluate_first: bool = False


def add_options(options, one_run=True):
    """Add what each stage that trains has for how it is carried out, the devices included.

    Args:
        options: the parser.
        one_run: whether there is one training, whose metrics are looked at, rather than many.
    """
    add = options.add_argument_group("execution").add_argument
    add("--fresh", action="store_true", help="start over even if a run with these settings can be resumed")
    add("--deterministic", action="store_true", help="identical bits in each run on the same machine; somewhat slower")
    add(
        "--precision",
        choices=("float32", "mixed_float16", "mixed_bfloat16"),
        default="float32",
        help="compute type of the layers (float32)",
    )
    add("--jit", action="store_true", help="compile the step with XLA: faster on many GPUs, much slower on CPUs")
    add(
        "--steps-per-execution",
        type=cli.whole_number(1, 10000),
        default=1,
        metavar="COUNT",
        help="steps per call to the device (1)",
    )
    add(
        "--cache",
        choices=("memory", "disk", "none"),
        help="where to keep decoded images (the first of these with enough room)",
    )
    cli.add_skip_option(options)
    if one_run:
        add(
            "--tensorboard",
            action="store_true",
            help="also write the metrics for TensorBoard, into the run's directory",
        )
        add("--evaluate-first", action="store_true", help="print the metrics before training")
    options.set_defaults(tensorboard=False, evaluate_first=False)
    cli.add_device_options(options, several=True)


def execution_of(arguments):
    """The `Execution` that parsed arguments ask for."""
    return Execution(
        cpu=arguments.cpu,
        gpus=arguments.gpu,
        processors=arguments.processors,
        cache=arguments.cache,
        deterministic=arguments.deterministic,
        fresh=arguments.fresh,
        steps_per_execution=arguments.steps_per_execution,
        jit=arguments.jit,
        tensorboard=arguments.tensorboard,
        evaluate_first=arguments.evaluate_first,
    )
