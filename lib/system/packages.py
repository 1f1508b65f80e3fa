"""The packages that are installed, without importing them."""

import contextlib
import importlib.util
from importlib import metadata


def installed(module):
    """Whether a module can be imported."""
    return importlib.util.find_spec(module) is not None


def versions_of(*packages):
    """The versions of those of some packages that are installed: name -> version."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
