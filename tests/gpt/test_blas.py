"""OpenBLAS on Zen 5: told of its wide vectors before NumPy is loaded, and nobody else is told anything."""

import subprocess
import sys
from pathlib import Path

import pytest

from gpt import blas

FLAGS = "fpu sse2 avx avx2 fma avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16"


def described(family="26", vendor="AuthenticAMD", flags=FLAGS):
    one = (f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel name\t: AMD EPYC: new\n"
           f"flags\t\t: {flags}\n")
    return one + "\n" + one


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What the variable is afterwards, on a processor that is described so."""
    def tell(text, before=None, numpy=False):
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        with monkeypatch.context() as patch:
            patch.setenv("OPENBLAS_CORETYPE", before or "")
            if before is None:
                patch.delenv("OPENBLAS_CORETYPE")
            if not numpy:
                patch.delitem(sys.modules, "numpy")
            said = blas.use_wide_vectors(str(path))
            now = blas.os.environ.get("OPENBLAS_CORETYPE")
            assert said == (now != before)
            return now
    return tell


@pytest.mark.parametrize("family", ["26", "27"])
def test_zen_5_and_later(family, told):
    assert told(described(family)) == "SkylakeX"


@pytest.mark.parametrize("text", [
    described("25"), described("6", "GenuineIntel"), described(vendor="GenuineIntel"), described("?"),
    described(flags=FLAGS.replace("avx512bw", "")), described(flags=""), "", "vendor_id", "\n\n" + described(),
    described().replace("flags", "Features")])
def test_others_are_left_alone(text, told):
    assert told(text) is None


def test_who_has_set_the_variable_has_the_last_word(told):
    assert told(described(), before="Haswell") == "Haswell"


def test_once_numpy_is_loaded_it_is_too_late(told):
    assert told(described(), numpy=True) is None


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "numpy")
    assert not blas.use_wide_vectors(str(tmp_path / "missing"))


def test_products_are_right_and_openblas_has_understood(tmp_path):
    code = f"""if True:
        import runpy
        wide = runpy.run_path({str(Path(blas.__file__))!r})["use_wide_vectors"]()
        import numpy as np
        from threadpoolctl import threadpool_info
        rng = np.random.default_rng(0)
        for shape in (1, 3, 17), (96, 128, 65), (130, 512, 128):
            for dtype, near in (np.float32, 1e-4), (np.float64, 1e-12):
                m, k, n = shape
                a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
                exact = np.einsum("ij,jk->ik", a.astype(float), b.astype(float))
                for x, y in (a, b), (a.T.copy().T, b.T.copy().T):
                    assert np.abs(x @ y - exact).max() < near * k ** 0.5
        kinds = [i["architecture"] for i in threadpool_info() if i["internal_api"] == "openblas"]
        assert not wide or not kinds or kinds == ["SkylakeX"], kinds
    """
    environment = {name: value for name, value in blas.os.environ.items() if name != "OPENBLAS_CORETYPE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert not done.returncode and not done.stderr, done.stderr
