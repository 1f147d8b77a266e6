"""`gpt train --code`: a file that trains with NumPy alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpt
from gpt.optim.adamw import AdamW
from gpt.optim.parameters import Parameters
from gpt.training.config import TrainConfig
from gpt.training.train import prepare_data
from gpt.training.train_program import train_or_write

SMALL = dict(n_layer=2, n_head=2, n_embd=8, block_size=8, batch_size=4, max_iters=40, warmup_iters=2,
             learning_rate=0.02, min_lr=0.001)
RUN = ("import sys; sys.path.append(sys.argv[1]); sys.path.append('.'); import numpy as np, step\n"
       "losses = [float(loss) for loss, weights in step.train()]\n"
       "assert not {'autograd', 'gpt'} & sys.modules.keys()\n"
       "print(*losses)")


def written(folder, recipe="nanogpt", **changes):
    """Write the program of a small model; return its settings and what the command said."""
    (folder / "text.txt").write_text("to be or not to be, that is the question.\n" * 40)
    said = []
    config = TrainConfig.from_recipe(recipe, **{**SMALL, **changes}, data=(str(folder / "text.txt"),),
                                     code=str(folder / "step.py"), out=str(folder / "out"))
    assert train_or_write(config, said.append) is None and not (folder / "out").exists()
    return config, said


@pytest.mark.slow
@pytest.mark.parametrize("recipe, fall", [("nanogpt", 0.3), ("fast", 0.02)])  # fast: at nanoGPT's learning rate
def test_it_trains_in_a_bare_process(tmp_path, recipe, fall):
    _, said = written(tmp_path, recipe)
    assert "lines that train with NumPy alone" in said[0] and ("AdamW" in said[-1]) == (recipe == "fast")
    packages = str(Path(np.__file__).parents[1])
    done = subprocess.run([sys.executable, "-I", "-S", "-c", RUN, packages], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    losses = [*map(float, done.stdout.split())]
    assert len(losses) == 40 and np.mean(losses[-5:]) < np.mean(losses[:5]) - fall


def test_its_step_is_that_of_gpt_train(tmp_path):
    config, _ = written(tmp_path, grad_clip=0.0)
    program = {"__name__": "step", "__file__": str(tmp_path / "step.py")}
    exec((tmp_path / "step.py").read_text(), program)
    data, tokenizer = prepare_data(config)
    model = gpt.GPT(config.model_config(tokenizer.vocab_size), seed=config.seed)
    parameters = Parameters(model)
    optimizer = AdamW.from_config(parameters, config)
    ids, targets = program["batch"](np.random.default_rng(config.seed), np.asarray(data.train))
    loss = model.loss(ids, targets)
    loss.backward()
    optimizer.step(program["learning_rate"](0))
    found, weights = next(program["train"](1))
    assert abs(found - loss.data) < 1e-6
    for name, t in model.named_arrays().items():
        assert np.allclose(weights[name], t.data, rtol=1e-4, atol=2e-4), name  # the first step is ±lr for each number


def test_what_it_cannot_write(tmp_path):
    with pytest.raises(ValueError, match="--code train.py"):
        train_or_write(TrainConfig(code=str(tmp_path / "step.txt")))
    with pytest.raises(ValueError, match="windows of a text: leave out --task and --lines"):
        train_or_write(TrainConfig.from_recipe(task="addition", code=str(tmp_path / "step.py")), lambda text: None)
