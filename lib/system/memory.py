"""The free memory, and amounts of memory in words."""

import os
import re

MAX_PIXELS = 500_000_000  # of a picture that is decoded, unless a setting says otherwise


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
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            with open(limit) as limit_file, open(used) as used_file:
                yield max(0, int(limit_file.read()) - int(used_file.read()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
