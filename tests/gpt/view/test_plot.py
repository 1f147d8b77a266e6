"""Curves of runs, in the terminal and as a picture."""

import json
import os
import sys

import numpy as np
import pytest

from gpt.cli import main
from gpt.view import history as reading
from gpt.view import plot as module
from gpt.view.history import Curve, read_history
from gpt.view.plot import (
    ASCII,
    BLOCKS,
    QUANTITIES,
    PlotConfig,
    format_number,
    name_runs,
    smooth,
    sparkline,
    thin_out,
)


def row(i, **changes):
    row = {"iter": i, "loss": 4 / i, "lr": i * 1e-4, "grad_norm": 2.0, "ms": 10.0, "tokens_per_s": 1000 + i}
    return row | ({"val_loss": 5 / i} if i % 10 == 0 else {}) | changes


def write(folder, rows, end="\n"):
    folder.mkdir(exist_ok=True)
    text = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + end
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return str(folder)


def read(run):
    return read_history(run, QUANTITIES)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "night", [row(i) for i in range(1, 41)])


def fails(argv, capsys):
    assert main(argv) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("gpt: error: "), lines
    return lines[0]


# ---------------------------------------------------------------------- reading


def test_a_curve_for_each_quantity(folder):
    curves = read(folder).curves
    assert list(curves) == ["loss", "val_loss", "lr", "grad_norm", "tokens_per_s"]
    assert curves["val_loss"].iters.tolist() == [10, 20, 30, 40]
    assert curves["val_loss"].values.tolist() == [0.5, 0.25, 5 / 30, 0.125]
    assert curves["lr"].values[:2].tolist() == [1e-4, 2e-4] and len(curves["loss"].iters) == 40


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_last_line_that_is_being_written_is_left_out(tmp_path, cut):
    lines = [json.dumps(row(1)), json.dumps(row(2)), json.dumps(row(3))[:cut]]
    history = read(write(tmp_path / "r", lines, end=""))
    assert history.curves["loss"].iters.tolist() == [1, 2] and history.note == ""


def test_a_last_line_without_its_end_counts_if_it_is_whole(tmp_path):
    assert read(write(tmp_path / "r", [row(1), row(2)], end="")).curves["loss"].iters.tolist() == [1, 2]


@pytest.mark.parametrize("bad", ["{", "nonsense", "[1, 2]", '{"loss": 2}', '{"iter": "x", "loss": 1}', "\0" * 20])
def test_metrics_are_read_up_to_a_damaged_line(tmp_path, bad, capsys):
    path = write(tmp_path / "r", [row(1), row(2), bad, row(4)])
    history = read(path)
    assert history.curves["loss"].iters.tolist() == [1, 2] and "line 3 is not metrics" in history.note
    assert main(["plot", path]) == 0
    captured = capsys.readouterr()
    assert "2 iterations" in captured.out and captured.err.count("\n") == 1 and "line 3" in captured.err


def test_a_run_that_went_on_from_an_earlier_step_replaces_what_came_after_it(tmp_path):
    run = write(tmp_path / "r", [row(1), row(2), row(3), row(2, loss=7.0), row(3, loss=8.0)])
    curve = read(run).curves["loss"]
    assert curve.iters.tolist() == [1, 2, 3] and curve.values.tolist() == [4.0, 7.0, 8.0]


def test_what_is_not_a_finite_number_is_a_gap(tmp_path):
    rows = [row(1, loss=float("nan")), row(2, loss=None), row(3, loss=float("inf")), row(4, loss=True), row(5)]
    assert read(write(tmp_path / "r", rows)).curves["loss"].iters.tolist() == [5]


@pytest.mark.parametrize(("content", "message"), [
    ("", "has no complete line yet: try again once"), ("\n\n", "has no complete line yet"),
    ('{"iter": 1, "lo', "has no complete line yet"), ('{"iter": 1}\n', "has no complete line yet"),
    ("a,b\n1,2\n", "is not what gpt train writes"), ('{"step": 1}\n', "is not what gpt train writes"),
    (b"\x89PNG\r\n\x1a\n\0\0", "is not what gpt train writes"), (None, "there are no metrics here")])
def test_files_without_metrics(tmp_path, capsys, content, message):
    file = tmp_path / "metrics.jsonl"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in fails(["plot", str(tmp_path)], capsys)
    assert message in fails(["plot", str(file), "--out", str(tmp_path / "p.svg")], capsys)
    assert not (tmp_path / "p.svg").exists()


def test_a_folder_that_is_not_there(capsys):
    assert "nowhere/metrics.jsonl: there are no metrics here" in fails(["plot", "nowhere"], capsys)


def test_names_of_runs_differ_as_soon_as_their_folders_do(tmp_path):
    paths = [str(tmp_path / p) for p in ("a/x", "b/x/metrics.jsonl", "c/y")]
    assert name_runs(paths) == ["a/x", "b/x", "c/y"]
    assert name_runs(paths[1:]) == ["x", "y"]
    assert name_runs([paths[0]] * 2) == ["x", "x"]
    assert name_runs(["/"]) == ["/"]


# ---------------------------------------------------------------------- in the terminal


def test_sparklines_in_the_terminal(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["plot", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "night  40 iterations"
    assert lines[1].startswith("  loss       █") and " ".join(lines[1].split()).endswith("▁ 4 → 0.1 min 0.1 at 40")
    assert "0.5 → 0.125" in lines[2] and "min 0.125 at 40" in lines[2]
    spark = lines[3].split()[1]
    assert lines[3].split()[0] == "lr" and sorted(spark) == list(spark) and {spark[0], spark[-1]} == {"▁", "█"}
    assert len(lines) == 6 and not any("\x1b" in line for line in lines)
    assert len({line.index("min") for line in lines[1:]}) == 1 and max(map(len, lines)) < 80


@pytest.mark.parametrize("columns", [1, 25, 30, 47, 60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_it_fits_narrow_terminals_and_their_encoding(folder, tmp_path, capsys, monkeypatch, columns, encoding):
    long = write(tmp_path / ("a night that was é " * 8), [row(i, loss=1e5 * i) for i in range(1, 31)])
    history = [read(folder), read(long)]
    text = module.draw_on_terminal(history, columns, encoding == "utf-8")
    text.encode("ascii" if encoding != "utf-8" else encoding)
    assert max(map(len, text.splitlines())) <= max(columns - 1, 24)
    marks = BLOCKS if encoding == "utf-8" else ASCII
    assert all(sum(c in marks for c in line) >= 12 for line in text.splitlines() if marks[-1] in line)
    for word in ("loss", "val loss", "lr", "grad norm", "tokens/s", "min 0.1 at 40"):
        assert word in text, text


def test_a_stream_without_blocks_gets_ascii(folder, monkeypatch, tmp_path):
    for encoding, blocks in (("utf-8", True), ("ascii", False), ("latin-1", False)):
        with open(tmp_path / "shown", "w", encoding=encoding) as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            assert main(["plot", folder]) == 0
        shown = (tmp_path / "shown").read_bytes().decode(encoding)
        assert ("█" in shown) == blocks and ("#" in shown) == (not blocks) and "?" not in shown


def test_a_sparkline_by_iteration():
    iters = np.arange(1.0, 9)
    assert sparkline(Curve(iters, iters), 1, 8, 8) == BLOCKS
    assert sparkline(Curve(iters, -iters), 1, 8, 8, blocks=False) == ASCII[::-1]
    assert sparkline(Curve(iters, iters), 1, 8, 4) == "▁▃▆█"  # means of two
    assert sparkline(Curve(iters, iters), 1, 8, 100) == BLOCKS  # no wider than there are steps
    assert sparkline(Curve(iters[[1, 5]], iters[[1, 5]]), 1, 8, 8) == " ▁▁▁▁███"  # nothing yet, then the latest
    assert sparkline(Curve(iters, 0 * iters + 3), 1, 8, 5) == "▁" * 5
    assert sparkline(Curve(iters[:1], iters[:1]), 1, 1, 9) == "▁"


@pytest.mark.parametrize(("value", "text"), [(1.23456, "1.235"), (0.0, "0"), (12345.6, "12,346"), (1e-4, "1.0e-04"),
                                             (-2.5, "-2.5"), (1e12, "1.0e+12"), (40.0, "40"), (999.96, "1000")])
def test_figures_are_short(value, text):
    assert format_number(value) == text


# ---------------------------------------------------------------------- as a picture


def test_a_mean_around_each_step():
    values = np.random.default_rng(0).normal(size=30)
    got = smooth(values, 5)
    np.testing.assert_allclose(got[[2, 10]], [values[:5].mean(), values[8:13].mean()])
    np.testing.assert_allclose(got[[0, 1, 29]], [values[0], values[:3].mean(), values[27:].mean()])
    np.testing.assert_allclose(smooth(np.arange(30.0), 5)[:28], np.arange(28))  # not late on a slope
    np.testing.assert_allclose(smooth(values, 1), values)
    line = np.zeros(500)
    line[250] = 1
    assert np.count_nonzero(np.round(smooth(line, None), 9)) == 11  # a fiftieth, centred


def test_thinning_keeps_peaks_and_order():
    values = np.sin(np.arange(50_000.0))
    values[31_234], values[777] = 9, -9
    iters, kept = thin_out(np.arange(50_000.0), values)
    assert len(iters) <= module.MOST_POINTS and (np.diff(iters) > 0).all()
    assert kept.max() == 9 and kept.min() == -9 and iters[kept.argmax()] == 31_234
    assert thin_out(iters, kept)[0] is iters


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are written."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    return figures


def titles(picture):
    return [axes.get_title(loc="left") for axes in picture.axes]


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".PDF", b"%PDF")])
def test_a_picture_by_its_suffix(folder, tmp_path, capsys, drawn, suffix, start):
    out = tmp_path / f"p{suffix}"
    assert main(["plot", folder, "--out", str(out)]) == 0
    first = out.read_bytes()
    assert first.startswith(start) and capsys.readouterr().out == f"drawn in {out}\n"
    assert main(["plot", folder, "--out", str(out)]) == 0
    assert out.read_bytes() == first  # the same runs, the same bytes


def test_what_a_picture_of_one_run_shows(folder, tmp_path, drawn):
    module.plot(PlotConfig(run=(folder,), out=str(tmp_path / "p.svg"), smoothing=1))
    (picture,) = drawn
    assert titles(picture) == ["Loss (nats per token), logarithmic", "Learning rate", "Gradient norm (before clipping)",
                               "Speed (tokens/s)"]
    top, lr, norm, speed = picture.axes
    assert top.get_yscale() == "log" and [a.get_yscale() for a in (lr, norm, speed)] == ["linear"] * 3
    loss, val = top.lines
    assert loss.get_ydata().tolist() == [4 / i for i in range(1, 41)] and val.get_xdata().tolist() == [10, 20, 30, 40]
    assert loss.get_color() != val.get_color() and val.get_marker() == "o"
    assert speed.get_ylim()[0] == 0 < speed.lines[0].get_ydata().max() < speed.get_ylim()[1]
    assert [t.get_text() for t in picture.legends[0].get_texts()] == ["night (best validation loss 0.125 at 40)"]
    assert [t.get_text() for t in top.get_legend().get_texts()] == ["training", "validation"]


def test_what_a_picture_of_several_runs_shows(folder, tmp_path, drawn):
    rows = [{"iter": i, "loss": 2.0 + i / 100} for i in range(1, 101)]
    odd = write(tmp_path / "_odd $a$ 文字", rows)
    module.plot(PlotConfig(run=(folder, odd), out=str(tmp_path / "p.png"), smoothing=5))
    top = drawn[0].axes[0]
    assert [t.get_text() for t in drawn[0].legends[0].get_texts()][1] == "_odd $a$ 文字"
    assert not any(t.get_parse_math() for t in drawn[0].legends[0].get_texts())
    each, mean, val, other_each, other_mean = top.lines
    assert each.get_color() == mean.get_color() == val.get_color() != other_mean.get_color()
    assert each.get_alpha() < 0.5 and mean.get_alpha() is None
    assert other_mean.get_ydata()[50] == pytest.approx(np.mean([2 + i / 100 for i in range(49, 54)]))
    assert len(drawn[0].axes[2].lines) == 2  # the other run has no gradient norm


def test_a_picture_of_the_first_step_and_of_losses_alone(tmp_path, drawn):
    for rows in ([row(1)], [{"iter": 3, "loss": 2.0}], [row(1, lr=0.0, loss=0.0), row(2, lr=0.0, loss=1.0)]):
        module.plot(PlotConfig(run=(write(tmp_path / "r", rows),), out=str(tmp_path / "p.png")))
    assert [len(p.axes) for p in drawn] == [4, 1, 4]
    assert drawn[0].axes[0].lines[-1].get_marker() == "o"  # a line of one point would be invisible
    assert drawn[2].axes[0].get_yscale() == "linear" and drawn[2].axes[1].get_ylim() == (0, 1)  # zeros have no log


def test_without_matplotlib_one_line_says_how_to_get_it(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    error = fails(["plot", folder, "--out", str(tmp_path / "p.svg")], capsys)
    assert "pip install matplotlib" in error and "without" not in error
    assert main(["plot", folder]) == 0  # the terminal needs nothing


@pytest.mark.parametrize("out", ["p", "p.jpg", "", "svg", "p.svg.gz"])
def test_a_picture_of_no_known_kind(folder, capsys, out):
    assert "needs to end in .svg, .png or .pdf" in fails(["plot", folder, "--out", out], capsys)


def test_a_picture_that_cannot_be_written(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "missing" / "p.svg"
    error = fails(["plot", folder, "--out", str(out)], capsys)
    assert str(out) in error and "choose another place" in error


def test_it_draws_what_train_writes(run, capsys):
    curves = read(run[1]).curves
    assert curves["loss"].iters.tolist() == list(range(1, 31)) and curves["val_loss"].iters.tolist() == [10, 20, 30]
    assert curves.keys() == module.QUANTITIES.keys()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir],
                         ids=["pipe", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, make):
    """Opened, a pipe would wait for a writer, and the device has no end."""
    make(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="metrics.jsonl is no file that could be read: give the folder"):
        read(str(tmp_path))


def test_metrics_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST", 10)
    (tmp_path / "metrics.jsonl").write_text('{"iter": 1, "loss": 2}\n')
    with pytest.raises(ValueError, match="has more than"):
        read(str(tmp_path))


@pytest.mark.parametrize("n_runs", [1, 2, 9])
def test_titles_and_labels_do_not_overlap(tmp_path, drawn, n_runs):
    for run in range(n_runs):
        (tmp_path / f"run {run}").mkdir()
        rows = [row(i, grad_norm=50 * 0.9**i + 1, tokens_per_s=123_456.0) for i in range(1, 60)]
        write(tmp_path / f"run {run}", rows)
    main(["plot", *(str(tmp_path / f"run {run}") for run in range(n_runs)), "--out", str(tmp_path / "p.png")])
    picture, = drawn
    picture.set_dpi(150)  # as it was written
    picture.canvas.draw()
    boxes = [text.get_window_extent() for axes in picture.axes for text in (axes._left_title, axes.xaxis.label)]
    assert len(boxes) == 8 and "logarithmic" in " ".join(titles(picture))
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[i + 1:]), (a, boxes)


# ---------------------------------------------------------------------- the ladder


LADDER = {"guess": 4.0, "1 character": 2.5, "2 characters": 0.3, "bz2": 0.302}


def test_the_ladder_is_drawn_where_it_fits(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folder = write(tmp_path / "night", [row(i, **({"ladder": LADDER} if i % 10 == 0 else {})) for i in range(1, 41)])
    assert read(folder).ladder == LADDER
    assert main(["plot", folder]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "ladder guess 4.000, 1 character 2.500, 2 characters 0.300, bz2 0.302" in shown
    assert main(["plot", folder, "--out", str(tmp_path / "a.svg")]) == 0
    drawn = (tmp_path / "a.svg").read_text()
    assert all(f"<!-- {name} -->" in drawn for name in ("2 characters 0.300", "1 character 2.500"))
    assert "bz2 0.302" not in drawn  # too near another to be read


def test_runs_on_different_texts_have_no_ladder_in_common(tmp_path):
    pytest.importorskip("matplotlib")
    folders = [write(tmp_path / name, [row(i, ladder=LADDER | {"guess": guess}) for i in range(1, 12)])
               for name, guess in (("a", 4.0), ("b", 3.0))]
    assert main(["plot", *folders, "--out", str(tmp_path / "a.svg")]) == 0
    assert "1 character" not in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize("ladder", [None, 3, [], {"guess": "high"}, {"guess": float("inf")}])
def test_a_damaged_ladder_is_none(tmp_path, ladder):
    assert read(write(tmp_path / "night", [row(1, ladder=ladder)])).ladder == {}
