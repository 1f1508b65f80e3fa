"""The free memory, and amounts of memory in words."""

import contextlib
import os
import re

MAX_PIXELS = 500_000_000  # of a picture that is decoded, unless a setting says otherwise

_GROUPS = "/sys/fs/cgroup/"
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def free_memory():
    """About how many bytes this process may still allocate: the free memory, within its control group's limit."""
    return min([_machine(), *_control_groups()])


def amount(size):
    """A number of bytes in words."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _machine():
    try:
        with open("/proc/meminfo") as file:
            return int(re.search(r"MemAvailable: *(\d+) kB", file.read())[1]) * 1024
    except (OSError, TypeError):  # not Linux: half of all memory
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _control_groups():
    """The bytes that the limits of a container or a cluster's job leave, version 2 and version 1."""
    for limit, used in _LIMITS:
        # There is no such file, or it holds "max".
        with contextlib.suppress(OSError, ValueError), open(_GROUPS + limit) as most, open(_GROUPS + used) as now:
            yield max(0, int(most.read()) - int(now.read()))
