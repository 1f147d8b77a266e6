"""NumPy's matrix products on processors that OpenBLAS takes for older ones.  Imports nothing that loads NumPy."""

import os
import sys
from pathlib import Path

# What OpenBLAS' kernels for SkylakeX are compiled for.
NEEDED = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"})
ZEN_5 = 26  # the family of AMD's Zen 5; later ones count up


def use_wide_vectors(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Have OpenBLAS use vectors of 512 bits on AMD's processors from Zen 5 on; whether it now will.

    OpenBLAS lacked this family when it looked for its kernels (until after 0.3.31; OpenMathLib/OpenBLAS, issue 6029 and
    pull request 6033), and may go by kernels of 256 bits, which take twice the time.  It reads the variable
    OPENBLAS_CORETYPE once, when NumPy is loaded: later there is nothing to be done, and nothing happens.  Who has set
    the variable has the last word.  Only where the system describes its processor as Linux does.
    """
    if "numpy" in sys.modules or os.environ.get("OPENBLAS_CORETYPE"):
        return False
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if facts["vendor_id"] != "AuthenticAMD" or int(facts["cpu family"]) < ZEN_5:
            return False
        if not NEEDED <= set(facts["flags"].split()):
            return False
    except (OSError, KeyError, ValueError):
        return False
    os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
    return True
