"""How much memory this process takes and has taken."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_mb() -> float:
    """Now."""
    return _of("VmRSS")


def peak_mb() -> float:
    """The most since the process began, or since ``forget_peak``."""
    return _of("VmHWM")


def forget_peak() -> None:
    """Count the peak from now on, where the system can."""
    with suppress(OSError):
        _REFS.write_text("5")


def _of(field: str) -> float:
    # Not getrusage's: there a process begins with the peak of the one that started it.
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return round(int(line.split()[1]) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
