"""The text of a run that goes on: the same wherever it lies, and no other."""

import re
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt import TrainConfig, checkpoint, train

TRAIN = sys.modules["gpt.training.train"]  # the module, which the function of that name hides


def quiet(line):
    """Say nothing."""


def weights(out):
    return gpt.load(Path(out) / checkpoint.FILE).model.wte.weight.data


def test_other_data_are_refused(tiny, tmp_path):
    train(TrainConfig(**tiny), quiet)
    (tmp_path / "other.txt").write_text("the cat sat on the mat, and the dog sat by the cat.\n" * 41)
    with pytest.raises(ValueError, match="the data are not those of the run"):
        train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=40, data=(str(tmp_path / "other.txt"),)), quiet)


@pytest.mark.slow_but_every(3)
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("place", [0.02, 0.5, 0.97])
def test_a_few_characters_that_changed_are_noticed(tiny, text_file, place, lines):
    """In the part to train on and in that to validate on: the same letters, as many of each, at other places."""
    text = [f"{i} the cat sat on the mat.\n" for i in range(60)]
    Path(text_file).write_text("".join(text))
    train(TrainConfig(**tiny | {"block_size": 64, "n_embd": 8, "lines": lines, "max_iters": 3}), quiet)
    text[int(place * len(text))] = text[int(place * len(text))].replace("cat sat", "sat cat")
    Path(text_file).write_text("".join(text))
    with pytest.raises(ValueError, match="the data are not those of the run") as caught:
        train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=5), quiet)
    checksums = re.findall("checksum of all ([0-9a-f]{8})", str(caught.value))
    assert len(set(checksums)) == 2


def test_letters_that_changed_for_others_are_noticed(tiny, text_file):
    train(TrainConfig(**tiny), quiet)
    Path(text_file).write_text(Path(text_file).read_text().replace("y", "z"))  # the same numbers of tokens
    with pytest.raises(ValueError, match="the data are not those of the run") as caught:
        train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=40), quiet)
    assert len(set(re.findall("checksum of all ([0-9a-f]{8})", str(caught.value)))) == 2


@pytest.mark.slow_but_every(2)
@pytest.mark.parametrize("move", [lambda file, to: file.rename(to / "renamed.txt"),
                                  lambda file, to: shutil.copy(file, to / "text.txt"),
                                  lambda file, to: (to / "folder").mkdir() or file.rename(to / "folder/a").parent])
def test_text_that_was_moved_is_the_same(tiny, text_file, tmp_path, move):
    train(TrainConfig(**tiny | {"out": str(tmp_path / "whole"), "max_iters": 40, "eval_interval": 40}), quiet)
    train(TrainConfig(**tiny | {"max_iters": 20, "lr_decay_iters": 40, "eval_interval": 40}), quiet)
    (tmp_path / "elsewhere").mkdir()
    moved = move(Path(text_file), tmp_path / "elsewhere")
    train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=40, data=(str(moved),)), quiet)
    metadata = gpt.load(tiny["out"]).metadata
    assert str(moved) in metadata["data"] and metadata["train"]["data"] == [str(moved)]
    np.testing.assert_array_equal(weights(tiny["out"]),
                                  weights(tmp_path / "whole"))


def test_a_run_of_an_earlier_version_goes_on(tiny):
    """Its checksum was of some windows."""
    train(TrainConfig(**tiny), quiet)
    run, arrays = checkpoint.load_with_state(tiny["out"])
    data, _ = TRAIN.prepare_data(TrainConfig(**tiny))
    ids, _ = data.train_batch(np.random.default_rng(0), 256)
    for checksum, goes_on in ((zlib.crc32(ids.tobytes()), True), (1, False)):
        metadata = run.metadata | {"data": f"elsewhere/text.txt: as it was, checksum {checksum:08x}"}
        gpt.save(tiny["out"], run.model, run.tokenizer, metadata, arrays)
        if goes_on:
            train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=40), quiet)
        else:
            with pytest.raises(ValueError, match="not those of the run: it had elsewhere/text.txt: as it was"):
                train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=50), quiet)


@pytest.mark.parametrize("changes", [{"task": "addition", "block_size": 9}, {"lines": True, "block_size": 64}])
def test_other_kinds_of_data_go_on(tiny, text_file, changes):
    Path(text_file).write_text("".join(f"{i} the cat sat on the mat.\n" for i in range(60)))
    settings = tiny | changes | ({"data": ()} if "task" in changes else {})
    train(TrainConfig(**settings), quiet)
    train(TrainConfig.from_recipe(resume=tiny["out"], max_iters=35), quiet)
    assert gpt.load(tiny["out"]).metadata["iter"] == 35
