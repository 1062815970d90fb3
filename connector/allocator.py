"""Memory that was freed goes back to the system. Pure but for the allocators themselves.

glibc answers a request from 128 KiB on with pages of their own, which go back when they are freed. But each that is
freed raises that border to its size, up to 32 MiB, and what lies below it stays with the thread that asked: after two
pulls of 100 MB a worker held 70 MiB more than before, measured, and the next pull came on top. So the border is told,
which keeps it where it is, and what lies below is given back once a pull is done. A lower border would cost time:
at 64 KiB, a pull of 1,000 layers of 100 KB took half as long again. What is free at the end of a heap, up to 256 KiB,
stays meanwhile: glibc would give 128 KiB back and ask for them again with every piece of a file, which took three times
as long as the work itself. Without glibc nothing of this happens.

Python's collector looks for cycles after so many new objects: the default of 700 costs a pull a tenth of a second, and
with 20,000 what waits for it is some megabytes at most. The 100,000 objects that imports leave stay, so it is told not
to look at them: 50 ms each time, and of all of them 2,000 could go.
"""

import ctypes
import gc
from collections.abc import Callable

_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD of malloc.h
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD
_BORDER_BYTES = 128 * 1024  # where glibc begins
_FREE_BYTES = 256 * 1024
_OBJECTS_BEFORE_COLLECTION = 20_000


def leave_what_is_loaded() -> None:
    """Look for cycles only among what is made from now on, every so many objects."""
    gc.freeze()
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION, 20, 20)


def hold_border() -> None:
    """Give back what is large as soon as it is freed, from now on."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_MMAP_THRESHOLD, _BORDER_BYTES)
        mallopt(_TRIM_THRESHOLD, _FREE_BYTES)


def give_back() -> None:
    """Give back now what is small and free; a few milliseconds, in which other threads may wait for memory."""
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None)
