"""Packages are known without being imported."""

import numpy as np

from lib.system.packages import installed, versions_of


def test_packages_that_are_installed():
    assert installed("numpy") and not installed("no_such_module")
    assert versions_of("numpy", "no-such-package") == {"numpy": np.__version__}
