"""The environment that the bits of a run depend on is recorded, and changes of it are said."""

from gpt.runtime.environment import compare_environments, environment


def test_the_environment_is_plain_data_that_names_what_matters(monkeypatch):
    found = environment(1)
    assert {"python", "numpy", "blas", "threads", "kernels", "replicas"} <= found.keys()
    assert found["kernels"] == "numpy" and found == environment(1)
    assert " for " in found["blas"]  # the processor that its code was chosen for
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert environment(1)["threads"] == "7"


def test_differences_in_words():
    assert compare_environments({"a": 1, "b": 2}, {"a": 1, "b": 2}) == ""
    assert compare_environments({"a": 1, "b": 2}, {"b": 3, "c": 4}) == "a 1 -> None, b 2 -> 3, c None -> 4"
