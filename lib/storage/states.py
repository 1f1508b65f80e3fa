"""The state of a stopped training: named arrays and facts in one file, which is written whole or not at all."""

import json
import os

import numpy as np

from lib.errors import WorkError, option
from lib.storage.files import whole_file
from lib.storage.untrusted import check_zip_member, parse_json

_FACTS = "facts"


def save_state(path, facts, groups):
    """Write a state.

    Args:
        path: the file.
        facts: what JSON knows.
        groups: name -> list of arrays.

    Raises:
        OSError: it can't be written; the former state is unchanged.
    """
    arrays = {_FACTS: np.frombuffer(json.dumps(facts).encode(), "uint8")}
    for name, group in groups.items():
        for number, array in enumerate(group):
            arrays[f"{name}/{number}"] = array
    with whole_file(path, "wb") as file:
        np.savez(file, **arrays)


def load_state(path):
    """Read a state.

    Returns:
        The facts, and name -> list of arrays; None, None if there is no such file.

    Raises:
        WorkError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            for member in file.zip.infolist():
                check_zip_member(member, os.path.getsize(path))
            facts = parse_json(file[_FACTS].tobytes().decode())
            groups = {}
            for key in file.files:  # in the order in which they were written
                if key != _FACTS:
                    groups.setdefault(key.split("/")[0], []).append(file[key])
    except FileNotFoundError:
        return None, None
    except OSError as error:
        raise WorkError(f"{path} can't be read ({error.strerror or error}); {option('fresh')} starts over.") from error
    except Exception as error:  # damage makes numpy, zipfile and zlib raise whatever they like, also MemoryError
        raise WorkError(f"{path} is damaged ({error}); {option('fresh')} starts over.") from error
    return facts, groups
