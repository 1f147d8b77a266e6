"""Freed memory is handed out again without page faults, where the C library is glibc."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, numpy as np
{keep}
def step():
    return [np.ones(1 << 18) for _ in range(8)]  # 2 MB each, all freed at the end
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep):
    code = CODE.format(keep="from gpt.runtime.malloc import keep_freed_memory; keep_freed_memory()" if keep else "")
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told")
def test_memory_is_kept():
    assert faults(keep=True) < 100 < faults(keep=False)
