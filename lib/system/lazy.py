"""Modules that are imported at their first use."""

import importlib


class LazyModule:
    """Stands for a module that takes long to import, until one of its attributes is used.

    So a registry of functions that compute with TensorFlow can be listed on the command line without it.
    """

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)
