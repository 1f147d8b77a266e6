"""The best weights of a run are what commands take, the last ones what training goes on from; both outlive a kill."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt import TrainConfig, checkpoint, train
from gpt.cli import main
from gpt.training.run_folder import finish_interrupted
from gpt.training.trainer import WHOLE, Evaluation, Trainer
from gpt.view.info import describe

from .test_resume import assert_equal_runs, everything, metrics, quiet


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    """The folder of a run that was at its best in the middle, and its best loss, and what it said at the end."""
    folder, said = tmp_path_factory.mktemp("overfitted"), []
    words = np.random.default_rng(0).choice("the cat sat on mat and dog by some other thing".split(), 260)
    (folder / "text.txt").write_text(" ".join(words))
    config = TrainConfig.from_recipe(data=(str(folder / "text.txt"),), out=str(folder / "out"), n_layer=1, n_head=2,
                                     n_embd=32, smear=True, block_size=16, batch_size=16, max_iters=80, warmup_iters=2,
                                     schedule="constant", eval_interval=20, eval_iters=4, replicas=1)
    train(config, said.append)
    return folder / "out", said


@pytest.fixture
def out(overfitted, tmp_path):
    return shutil.copytree(overfitted[0], tmp_path / "out")


def weights(path):
    return checkpoint.load_with_state(path)[0].model.wte.weight.data


def test_it_ended_worse_and_says_so(overfitted):
    out, said = overfitted
    losses = {row["iter"]: row["val_loss"] for row in metrics(out) if "val_loss" in row}
    best, state = min(losses, key=losses.get), checkpoint.read_metadata(out)["state"]
    assert state["best_iter"] == best < 80 and state["latest"] > losses[best] + 0.02  # or this tests nothing
    (line,) = [line for line in said if "the run has ended worse than it was" in line]
    assert f"of step {best} with a validation loss of {losses[best]:.4f}" in line
    assert f"of step 80 with {state['latest']:.4f}, which are in {out / 'model.safetensors'}" in line
    assert f"weights in {out / 'best.safetensors'}; more text" in said[-1]


def test_a_run_that_ended_at_its_best_says_nothing(tiny):
    said = []
    train(TrainConfig(**tiny), said.append)
    assert not any("worse" in line for line in said) and f"weights in {tiny['out']}/model.safetensors" in said[-1]
    assert checkpoint.choose(tiny["out"]) == (Path(tiny["out"]) / "model.safetensors", "")


def test_a_folder_stands_for_the_best_and_a_file_for_itself(out):
    said = []
    best = gpt.load(out, said.append)
    assert best.metadata["iter"] < 80 and len(said) == 1 and said[0].startswith("note    taking the best weights of")
    np.testing.assert_array_equal(best.model.wte.weight.data, weights(out / "best.safetensors"))
    assert gpt.load(out / "model.safetensors").metadata["iter"] == 80
    assert describe(out)["file"].endswith("best.safetensors") and "the best weights" in describe(out)["note"]
    assert describe(out / "model.safetensors")["note"] == ""


@pytest.mark.parametrize("argv", [["sample", "--max-new-tokens", "3"], ["info"], ["show", "--prompt", "the"],
                                  ["tune", "--max-iters", "1"], ["chat", "--max-new-tokens", "2"]],
                         ids=lambda argv: argv[0])
def test_commands_take_the_best_and_say_so(out, tmp_path, capsys, monkeypatch, argv):
    import io
    from types import SimpleNamespace
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"the cat\n"), isatty=lambda: False))
    (tmp_path / "pairs.json").write_text(json.dumps([{"prompt": f"the {a}", "response": "cat"} for a in
                                                     ("cat", "mat", "dog", "sat", "thing")]))
    (out / "model.safetensors").write_bytes((out / "model.safetensors").read_bytes()[:-1] + b"\xff")  # is not read
    more = {"tune": ["--data", str(tmp_path / "pairs.json"), "--out", str(tmp_path / "new")],
            "show": ["--out", str(tmp_path / "new")]}.get(argv[0], [])
    assert main([argv[0], str(out), *argv[1:], *more]) == 0
    printed = capsys.readouterr()
    assert "the best weights of" in " ".join((printed.out + printed.err).split())
    assert (argv[0] in ("sample", "chat")) == ("best weights" in printed.err)  # where the text is to be used


def test_a_lora_belongs_to_the_weights_that_were_taken(out, tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps([{"prompt": f"the {a}", "response": "cat"} for a in
                                                     ("cat", "mat", "dog", "sat", "thing")]))
    assert main(["tune", str(out), "--data", str(tmp_path / "pairs.json"), "--out", str(tmp_path / "lora"),
                 "--lora-rank", "2", "--max-iters", "2"]) == 0
    header = json.loads(checkpoint.read_arrays(tmp_path / "lora" / "lora.safetensors", "tapegrad lora 1")[0]["lora"])
    assert header["base"] == "../out/best.safetensors"
    gpt.load(tmp_path / "lora")


def test_training_goes_on_from_the_last(out):
    train(TrainConfig.from_recipe(resume=str(out), max_iters=81), quiet)
    assert [row["iter"] for row in metrics(out)] == list(range(1, 82))


def test_a_best_checkpoint_that_cannot_be_read_or_is_worse_than_the_best_is_not_taken(out):
    run, arrays = checkpoint.load_with_state(out / "best.safetensors")
    for more in (0.1, 0):
        state = run.metadata["state"] | {"best": run.metadata["state"]["best"] + more}
        gpt.save(out / "best.safetensors", run.model, run.tokenizer, run.metadata | {"state": state}, arrays)
        assert (checkpoint.choose(out)[1] == "") is bool(more)
    (out / "best.safetensors").write_bytes(b"nonsense")
    assert checkpoint.choose(out) == (out / "model.safetensors", "")


def test_the_last_evaluation_is_compared_over_the_same_batches(tiny, monkeypatch):
    """The whole part has a higher loss than the batches of the others: the run has not got worse for that."""
    monkeypatch.setattr(Trainer, "validate", lambda self, last, stop_requested:
                        Evaluation(9.0, WHOLE) if last else Evaluation(5 - self.iter / 10, "2 batches"))
    train(TrainConfig(**tiny), quiet)
    state = gpt.load(Path(tiny["out"]) / "model.safetensors").metadata["state"]
    assert (state["best"], state["best_iter"], state["latest"]) == (2.0, 30, 2.0)
    assert metrics(tiny["out"])[-1]["val_loss"] == 9.0 and checkpoint.choose(tiny["out"])[1] == ""


def test_a_loss_beyond_all_floats_is_no_error(tiny, monkeypatch):
    monkeypatch.setattr(Trainer, "validate", lambda *_: Evaluation(1000.0, "2 batches"))
    said = []
    train(TrainConfig(**tiny), said.append)
    assert any("val 1000.0000 (2 batches; perplexity inf" in line for line in said)
    assert gpt.load(tiny["out"]).metadata["iter"] == 30


# ---------------------------------------------------------------------- what a kill leaves to do


def killed_before(monkeypatch, name, steps):
    """Let the next run end, as a kill would end it, before the call of a function of `checkpoint` at this step."""
    real = getattr(checkpoint, name)
    monkeypatch.setattr("gpt.training.run_folder.tidy", quiet)

    def ends(folder, metadata, *args):
        if metadata["iter"] == steps:
            raise SystemExit
        real(folder, metadata, *args)

    monkeypatch.setattr(checkpoint, name, ends)


@pytest.mark.parametrize("steps", [20, 30])
def test_copies_that_a_killed_run_did_not_make_are_made_up_for(tiny, tmp_path, monkeypatch, steps):
    """Also after the last step, when there is nothing else left to do."""
    settings = tiny | {"checkpoint_interval": 10, "keep": 3}
    train(TrainConfig(**settings | {"out": str(tmp_path / "whole")}), quiet)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        killed_before(patch, "keep_copies", steps)
        train(TrainConfig(**settings), quiet)
    out = Path(tiny["out"])
    assert gpt.load(out / "model.safetensors").metadata["iter"] == steps
    assert gpt.load(out / "best.safetensors").metadata["iter"] == steps - 10  # the state says that it is not the best
    try:
        train(TrainConfig.from_recipe(resume=str(out)), quiet)
    except ValueError as error:
        assert "has taken its 30 steps" in str(error) and steps == 30
    assert_equal_runs(tmp_path / "whole", out)
    for file in (tmp_path / "whole").glob("*.safetensors"):
        np.testing.assert_array_equal(weights(file), weights(out / file.name))
    assert {file.name for file in out.iterdir()} == {file.name for file in (tmp_path / "whole").iterdir()}


def test_metrics_that_a_killed_run_did_not_move_are_moved(tiny, tmp_path, monkeypatch):
    train(TrainConfig(**tiny | {"out": str(tmp_path / "whole")}), quiet)
    train(TrainConfig(**tiny | {"seed": 3, "max_iters": 40}), quiet)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("gpt.training.metrics.Metrics.publish", lambda self: exit())
        patch.setattr("gpt.training.run_folder.tidy", quiet)
        train(TrainConfig(**tiny | {"overwrite": True, "checkpoint_interval": 10}), quiet)
    assert len(metrics(tiny["out"])) == 40
    train(TrainConfig.from_recipe(resume=tiny["out"]), quiet)
    assert metrics(tiny["out"]) == metrics(tmp_path / "whole")


@pytest.mark.slow_but_every(2)
@pytest.mark.parametrize("name", ["../mine", "mine", ".metrics.jsonl.0123abcd.tmp/../mine", 3])
def test_a_checkpoint_from_elsewhere_moves_no_files(tiny, name):
    train(TrainConfig(**tiny), quiet)
    out = Path(tiny["out"])
    run, arrays = checkpoint.load_with_state(out)
    gpt.save(out, run.model, run.tokenizer, run.metadata | {"metrics": name}, arrays)
    for mine in (out / "mine", out.parent / "mine"):
        mine.write_text("mine")
    train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=31), quiet)
    assert (out / "mine").read_text() == (out.parent / "mine").read_text() == "mine" and len(metrics(out)) == 31


# ---------------------------------------------------------------------- going back


def test_what_an_earlier_checkpoint_goes_on_to_takes_the_place_of_the_later_ones(tiny):
    settings = tiny | {"checkpoint_interval": 5, "keep": 3}
    train(TrainConfig(**settings), quiet)
    before, said = everything(tiny["out"]), []
    train(TrainConfig.from_recipe(resume=tiny["out"] + "/iter-00000020.safetensors", max_iters=26), said.append)
    assert any("up to step 30, are replaced at the first" in line for line in said)
    kept = checkpoint.numbered_checkpoints(Path(tiny["out"]))
    assert [file.stem for file in kept] == [f"iter-000000{i}" for i in (20, 25, 26)]
    assert metrics(tiny["out"])[:20] == before[2][:20] and len(metrics(tiny["out"])) == 26


def test_a_run_that_goes_back_leaves_all_until_its_first_checkpoint(tiny, monkeypatch):
    train(TrainConfig(**tiny | {"checkpoint_interval": 10, "keep": 3}), quiet)
    before = {file.name: file.read_bytes() for file in Path(tiny["out"]).iterdir()}
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(checkpoint, "save_checkpoint", lambda *args: exit())
        train(TrainConfig.from_recipe(resume=tiny["out"] + "/iter-00000010.safetensors"), quiet)
    assert before == {file.name: file.read_bytes() for file in Path(tiny["out"]).iterdir()}


def test_the_best_is_not_replaced_by_a_worse_one_of_a_run_that_goes_back(out):
    best = describe(out / "best.safetensors")["about"]
    run, arrays = checkpoint.load_with_state(out)
    state = run.metadata["state"] | {"best": best["state"]["best"] + 1, "best_iter": 80}
    gpt.save(out, run.model, run.tokenizer, run.metadata | {"state": state}, arrays)
    finish_interrupted(out)
    assert describe(out / "best.safetensors")["about"] == best
