"""A slice of the suite runs in Pyodide: Python 3.12 with NumPy 2.0, without threads, and with 32 bits to an index."""

import shutil
import subprocess
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYODIDE = next((found for folder in ROOT.parents if (found := folder / "shared" / "pyodide-0.27.7").is_dir()), None)
NEEDED = ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "graphviz", "tqdm")  # all of them pure Python
SLICE = ["autograd/test_engine.py", "autograd/test_transform.py", "autograd/core/test_dtypes.py",
         "autograd/kernels/test_kernels.py", "gpt/model", "gpt/optim/test_adamw.py", "gpt/generation/test_sampling.py",
         "gpt/data/tokenizers/test_base.py"]
NO_THREADS = ["threads_differentiate", "built_in_threads"]
# Hypothesis has compiled parts.  In its place: tests that draw are skipped, and strategies can be written down.
HYPOTHESIS = """
import pytest
class Anything:
    def __call__(self, *args, **named):
        return args[0] if args and callable(args[0]) and not named else self
    def __getattr__(self, name):
        return self if not name.startswith("__") else object.__getattribute__(self, name)
settings = strategies = HealthCheck = Anything()
def given(*args, **named):
    return pytest.mark.skip(reason="it draws")
"""


def write_archive(path):
    """Write an archive of the repository's Python and of what its tests need."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("hypothesis.py", HYPOTHESIS)
        archive.write(ROOT / "pyproject.toml", "pyproject.toml")
        for folder in ("autograd", "gpt", "tests"):
            for file in (ROOT / folder).rglob("*"):
                if file.suffix in (".py", ".css", ".html", ".js", ".jsonl"):
                    archive.write(file, file.relative_to(ROOT))
        for name in NEEDED:
            for entry in distribution(name).files:
                if ".." not in entry.parts and entry.suffix != ".pyc" and entry.locate().is_file():
                    archive.write(entry.locate(), entry)


@pytest.mark.slow
@pytest.mark.skipif(PYODIDE is None, reason="no Pyodide beside the repository (../shared)")
@pytest.mark.skipif(shutil.which("node") is None, reason="Pyodide needs Node here")
def test_a_slice_of_the_suite_passes_in_pyodide(tmp_path):
    write_archive(tmp_path / "tests.zip")
    arguments = [*(f"tests/{name}" for name in SLICE), "-q", "-p", "no:cacheprovider", "--capture=sys",
                 "-k", f"not ({' or '.join(NO_THREADS)})"]
    done = subprocess.run(["node", ROOT / "tests" / "pyodide.mjs", PYODIDE, tmp_path / "tests.zip", *arguments],
                          capture_output=True, text=True, timeout=900)
    lines = [line[:300] for line in (done.stdout + done.stderr).splitlines()]  # Pyodide's own source has one long one
    assert done.returncode == 0, "\n".join(lines[-60:])
    assert int(lines[-1].split(" passed")[0].split()[-1]) > 500
