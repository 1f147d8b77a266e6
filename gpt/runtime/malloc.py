"""malloc tuned for training: freed memory is kept between steps."""

import ctypes


def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep freed memory for the next allocation, instead of returning it to the kernel.

    Each training step frees and allocates the same arrays, and each time the kernel would map and clear their pages
    anew (thousands of page faults a step, a quarter of its time).  The process stays as large as its largest step.
    Without glibc, nothing happens.  Source: mallopt(3).
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
    mallopt(top_pad, 1 << 26)
