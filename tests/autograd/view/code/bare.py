"""Programs in a process that has NumPy alone."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

RUN = """
import sys
sys.path.append(sys.argv[1])
import hashlib, importlib.abc, json

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("autograd", "gpt", "tests", "scipy", "numba", "torch", "jax"):
            raise ImportError(f"a bare process has no {name}")

sys.meta_path.insert(0, Refuse())
import numpy as np
np.seterr(all="ignore")

for source, file in json.load(open(sys.argv[2])):
    program = {"__name__": "program", "__file__": file}
    exec(compile(source, file, "exec"), program)
    result, gradients = program["forward_backward"]()
    bits = hashlib.sha256()
    for key, a in [("", result), *sorted(gradients.items())]:
        bits.update(f"{key} {np.asarray(a).dtype} {np.shape(a)}".encode() + np.asarray(a).tobytes())
    print(bits.hexdigest())
"""


def run_bare(folder: Path, codes) -> list[str]:
    """Return the hashes of what programs compute in one bare process; those in `codes` that have a file are read."""
    sources = [(code.source, str(folder / f"{i}.py")) for i, code in enumerate(codes)]
    for i, code in enumerate(codes):
        if code.numbers:
            code.save(folder / f"{i}.py")
    (folder / "sources.json").write_text(json.dumps(sources))
    packages = str(Path(np.__file__).parents[1])
    done = subprocess.run([sys.executable, "-I", "-S", "-c", RUN, packages, str(folder / "sources.json")],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def expected(code) -> str:
    """Return the hash of the result and the gradients that formulas and rules gave."""
    bits = hashlib.sha256()
    gradients = {code.keys[code.passes.names[t]]: g for t, g in code.gradients.items()}
    for key, a in [("", code.result), *sorted(gradients.items())]:
        bits.update(f"{key} {np.asarray(a).dtype} {np.shape(a)}".encode() + np.asarray(a).tobytes())
    return bits.hexdigest()
