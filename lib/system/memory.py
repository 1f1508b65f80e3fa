"""How much memory is free, and amounts of it in words."""

import os

MAX_PIXELS = 500_000_000  # of a picture that is decoded, unless a setting says otherwise


def free_memory():
    """About how many bytes this process may still take: what is free, within its control group's limit."""
    return min([_machine(), *_control_groups()])


def amount(size):
    """A number of bytes in words."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _machine():
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux: half of all there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _control_groups():
    """What the limits of a container or a cluster's job leave, version 2 and version 1."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            with open(limit) as limit_file, open(used) as used_file:
                yield max(0, int(limit_file.read()) - int(used_file.read()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
