"""The benchmark prints what it measured: medians of both sides, and their ratio."""

import json

import pytest

from gpt.bench import BenchConfig, Row, bench, in_turns
from gpt.cli import main


def test_sides_take_turns_and_the_first_round_is_left_out():
    calls = []
    times = in_turns(3, lambda: calls.append("a") or len(calls), lambda: calls.append("b") or len(calls))
    assert calls == ["a", "b"] * 4 and times == [[3, 5, 7], [4, 6, 8]]


def test_a_row_compares_medians():
    summary = Row("row", "ms", [1.0, 2.0, 90.0], "peer", [4.0, 4.0, 5.0]).summary()
    assert summary["ours"]["median"] == 2 and summary["peer"]["median"] == 4 and summary["ratio"] == 0.5
    assert Row("row", "ms", [1.0, 2.0, 3.0], "(missing)", []).summary()["ratio"] is None


def test_import_row(capsys):
    bench(BenchConfig(row="import", rounds=3, json=True))
    machine, row = map(json.loads, capsys.readouterr().out.splitlines())
    assert "numpy" in machine and row["peer_name"] == "import numpy" and row["ratio"] > 0


def test_a_race_needs_equal_results(monkeypatch, capsys):
    pytest.importorskip("torch")
    from gpt import peers
    honest = peers.loss
    monkeypatch.setattr(peers, "loss", lambda *args: honest(*args) * 1.001)
    assert main(["bench", "step", "--rounds", "3"]) == 1
    assert "no race" in capsys.readouterr().err
