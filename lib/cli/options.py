"""Options that several scripts share. Their `dest` names are fields of the scripts' settings."""

from lib.cli.program import Ignored
from lib.cli.types import existing_file, output_ending, parsed, single_line, whole_number, whole_numbers
from lib.system.shard import parse_shard


def add_device_options(parser, computes=True, parallel=True, several=False):
    """Add `-c`, `-g` and `-p`, which most stages have: `cpu`, `gpu` and `processors`.

    Args:
        parser: the parser.
        computes: False for a stage that ignores `-c` and `-g`.
        parallel: False for a stage that ignores `-p`, too.
        several: whether `-g` takes several GPUs, as a tuple.
    """
    add = parser.add_argument_group("device").add_argument
    index = whole_numbers if several else whole_number(0)
    count = whole_number(1, 4096)  # more than any machine has, and not too many for TensorFlow
    if computes:
        more = ", or several, such as 0,1" if several else ""
        add("-c", "--cpu", action="store_true", help="use the CPU only")
        add("-g", "--gpu", type=index, metavar="INDEX", help=f"the GPU to use, if any{more} (0)")
    else:
        add("-c", "--cpu", action=Ignored, nargs=0)
        add("-g", "--gpu", action=Ignored, type=index, metavar="INDEX")
    if parallel:
        add("-p", "--processors", type=count, metavar="COUNT", help="number of CPU cores to use (all)")
    else:
        add("-p", "--processors", action=Ignored, type=count, metavar="COUNT")


def add_duplicates_option(parser):
    """Add `--duplicates`: the number of bits, None for off."""

    def bits(text):
        return None if text == "off" else whole_number(0, 10)(text)

    near = "images whose 64-bit dHashes differ in at most this many bits are near-duplicates"
    limits = "0 to 10, or off (%(default)s)"
    parser.add_argument("--duplicates", type=bits, metavar="BITS", help=f"{near}: {limits}")


def add_name_option(parser):
    """Add `--name`."""
    named = "a name for the run, for the table of all runs and the model's card"
    parser.add_argument("--name", type=single_line, metavar="NAME", help=named)


def add_exclude_option(parser):
    """Add `--exclude`: globs, None for none."""
    what = "leave out files and folders whose names, or whose paths below -d, match this glob; may be repeated"
    parser.add_argument("--exclude", action="append", metavar="GLOB", help=what)


def add_skip_option(parser):
    """Add `--skip-bad`."""
    parser.add_argument("--skip-bad", action="store_true", help="leave out bad records instead of stopping at one")


def add_shard_option(parser, what):
    """Add `--shard`: a `Shard`, None for all."""
    parser.add_argument("--shard", type=parsed(parse_shard), metavar="K/N", help=what)


def add_column_options(parser):
    """Add `--probabilities` and `--join`, which columns a table of answers gets, too."""
    parser.add_argument("--probabilities", action="store_true", help="give the probability of every category")
    more = "add the columns of this table, such as downloadImages.py's index.tsv, to the rows with the same FILE"
    parser.add_argument("--join", type=existing_file, metavar="FILE", help=more)


def add_report_options(parser, audited=False):
    """Add `--report` and `--report-images` and, for pages that can be audited, `--audit`."""
    page = "a page to view in a browser, .html (those of predictImages.py and adaptImages.py can be taught)"
    parser.add_argument("--report", type=output_ending(".html", ".htm"), metavar="FILE", help=page)
    most = "maximum number of thumbnails per category in it (%(default)s)"
    parser.add_argument("--report-images", type=whole_number(0), metavar="COUNT", help=most)
    if audited:
        drawn = "images drawn at random for it, to measure how many answers are right (%(default)s; at most a quarter)"
        parser.add_argument("--audit", type=whole_number(0), metavar="COUNT", help=drawn)


def add_labels_option(parser, what="a TSV with the categories' INDEX and LABEL"):
    """Add `--labels`."""
    parser.add_argument("--labels", type=existing_file, metavar="FILE", help=what)


def add_models_option(parser):
    """Add `--models`."""
    where = "where the published models are kept ($HERBARIOGRAPH_MODELS, else ~/.cache/herbariograph)"
    parser.add_argument("--models", metavar="DIR", help=where)


def add_model_options(parser, what="ConvNeXt-N (downloaded if missing), ConvNeXt-T, or the path of a .keras file"):
    """Add `-m` for a published model or a file, `--models` and `--labels`."""
    group = parser.add_argument_group("model")
    group.add_argument("-m", "--model", metavar="MODEL", help=f"{what} (%(default)s)")
    add_models_option(group)
    beside = "categories.tsv beside a file; the published models have theirs"
    add_labels_option(group, f"a TSV with INDEX and LABEL of its outputs ({beside})")


def add_execution_options(parser, one_run=True):
    """Add the options of `lib.training.run.Execution`, `--precision` and `--skip-bad`.

    Args:
        parser: the parser.
        one_run: False for a stage with many trainings, which has no options to show metrics.
    """
    add = parser.add_argument_group("execution").add_argument
    add("--fresh", action="store_true", help="start over even if a run with these settings can be resumed")
    add("--deterministic", action="store_true", help="identical bits in each run on the same machine; somewhat slower")
    precisions = ("float32", "mixed_float16", "mixed_bfloat16")
    add("--precision", choices=precisions, help="compute type of the layers (%(default)s)")
    add("--jit", action="store_true", help="compile the step with XLA: faster on many GPUs, much slower on CPUs")
    steps = "steps per call to the device (%(default)s)"
    add("--steps-per-execution", type=whole_number(1, 10000), metavar="COUNT", help=steps)
    caches = "where to keep decoded images (the first of these with enough room)"
    add("--cache", choices=("memory", "disk", "none"), help=caches)
    add_skip_option(parser)
    if one_run:
        events = "also write the metrics for TensorBoard, into the run's directory"
        add("--tensorboard", action="store_true", help=events)
        add("--evaluate-first", action="store_true", help="print the metrics before training")
        add_name_option(parser)
    add_device_options(parser, several=True)
