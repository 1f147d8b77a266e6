"""Small models and runs that several tests share."""

import shutil

import numpy as np
import pytest

from gpt import GPT, CharTokenizer, GPTConfig, TrainConfig, train

TEXT = "the cat sat on the mat, and the dog sat by the cat.\n" * 40


@pytest.fixture
def config():
    return GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=12)


@pytest.fixture
def model(config):
    return GPT(config, seed=3, dtype=np.float64)


@pytest.fixture
def ids():
    return np.random.default_rng(0).integers(11, size=(3, 8))


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return str(tmp_path / "text.txt")


TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=8, max_iters=30, warmup_iters=5,
            learning_rate=1e-2, eval_interval=10, eval_iters=2)


@pytest.fixture
def tiny(text_file, tmp_path):
    """Settings of a run of a second."""
    return dict(data=(text_file,), out=str(tmp_path / "out"), **TINY)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A trained run, and where it lies; only to be read."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return train(TrainConfig(data=(str(folder / "text.txt"),), out=str(folder / "out"), **TINY)), folder / "out"


@pytest.fixture
def run(trained, tiny):
    """A trained run, and where a copy of it lies that is the test's own."""
    checkpoint, folder = trained
    shutil.copytree(folder, tiny["out"])
    return checkpoint, tiny["out"]


@pytest.fixture
def tokenizer():
    return CharTokenizer("the cats do.\n")  # of 11 characters, as many as `config` has tokens
