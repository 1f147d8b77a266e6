"""The C library's memory, kept between the steps of training."""

import ctypes


def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep what is freed, and hand it out again, instead of returning it to the kernel.

    A training step frees and asks for the same arrays over and over; each time the kernel would have to map and clear
    their pages anew (thousands of page faults a step, a quarter of its time).  The process stays as large as its
    largest step.  Where there is no glibc, nothing happens.  Source: mallopt(3).
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
    mallopt(top_pad, 1 << 26)
