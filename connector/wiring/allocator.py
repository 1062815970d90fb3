"""Memory that was freed goes back to the system.

glibc answers a request from 128 KiB on with pages of their own, which go back when they are freed. But each that is
freed raises that border to its size, up to 32 MiB, and what lies below it stays with the thread that asked: after two
pulls of 100 MB a worker had 142 MiB more than before, measured, and the next pull came on top. Told the border, glibc
leaves it there: 1 MiB more.
"""

import ctypes

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_BORDER_BYTES = 128 * 1024  # where glibc begins


def give_back_what_is_freed() -> None:
    """Hold the border where it is; without glibc, nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _BORDER_BYTES)
