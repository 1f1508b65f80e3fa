"""A training as a run that is named after its settings and inputs: begun, gone on with, or found complete."""

import contextlib
import dataclasses

from lib.storage.files import checksum_of
from lib.storage.runs import complete, find_run, reserved, run_name, write_settings


def carry_out(settings, inputs, output, execution, prepare, command=(), report=print, tell=print):
    """Train, go on with it, or find that it is done.

    Args:
        settings: a frozen dataclass of all that the result follows from.
        inputs: which of its attributes are a path, a tuple of paths, or None; the run is named after what they contain.
        output: the directory for the run's.
        execution: `lib.cli.execution.Execution`.
        prepare: called with a `lib.system.devices.Team` and `report`; returns a `lib.training.loop.Task`, a
            `lib.training.loop.Conduct`, and what is worth recording, for JSON.
        command: the command line, to be recorded.
        report: called with each message for the user.
        tell: called with each result for the user.

    Returns:
        The path of the trained model; None on workers that don't write it.

    Raises:
        UsageError, WorkError: of `prepare` and of `lib.training.loop.fit`; another process is at the same run.
    """
    sums, identity = identify(settings, inputs)
    run = find_run(output, run_name(identity))
    if not execution.fresh and complete(run):
        report("The run is already complete.")
        return run.model

    from lib.system.devices import start_team, together

    team = start_team(execution.cpu, execution.gpus, execution.processors)
    if not team.chief:
        report = tell = _nobody
    with reserved(run, execution.fresh) if team.chief else contextlib.nullcontext(), together(team):
        if team.workers == 1 and complete(run):
            report("Another process has just completed the run.")
            return run.model
        task, conduct, about = prepare(team, report)
        if team.chief:
            about = {"command": list(command), **about, "settings": dataclasses.asdict(settings), "inputs": sums}
            write_settings(run, about)
        _fit(task, conduct, run, report, tell)
    return run.model if team.chief else None


def _paths(value):
    """The paths that an attribute names."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def identify(settings, inputs):
    """What a run is named after: the settings, with what is in the files rather than what they are called.

    Args:
        settings, inputs: see `carry_out`.

    Returns:
        The checksum of each path, and a dictionary for JSON.
    """
    sums = {path: checksum_of(path) for name in inputs for path in _paths(getattr(settings, name))}
    identity = dataclasses.asdict(settings)
    for name in inputs:
        value = identity[name]
        identity[name] = sums.get(value) if value is None or isinstance(value, str) else [sums[path] for path in value]
    return sums, identity


def _fit(task, conduct, run, report, tell):
    from lib.system.devices import enough_memory
    from lib.training.loop import fit

    with enough_memory(f"give a smaller {conduct.batch_option}"):
        fit(task, conduct, run, report, tell)


def _nobody(message):
    """Says nothing, where the chief says it."""
