"""LoRA and IA3: trained in softcue's loop, counted and saved by PEFT, and gone from the model afterwards."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
import torch
from lightning import Trainer
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from softcue.build.backbone import build_backbone
from softcue.build.data import build_data
from softcue.build.learners import build_learners
from softcue.contracts import PromptBank
from softcue.errors import ConfigError, RunError
from softcue.execute import train
from softcue.plan import prepare
from softcue.runs.store import RunFolder
from softcue.trained import load
from softcue.training.resume import LastState
from softcue.training.session import Session
from tests.baselines.conftest import Compose
from tests.running import train_one
from tests.tiny import plain_log_likelihood, tiny_model, tiny_tokenizer

METHODS = ("lora", "ia3")
THEIRS: dict[str, Any] = {
    "lora": LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16),
    "ia3": IA3Config(task_type="CAUSAL_LM"),
}


def losses(folder: RunFolder) -> list[float]:
    return [float(loss) for loss in pd.read_csv(folder.path / "metrics.csv")["train/loss"].dropna()]


def state(model: Any) -> dict[str, Any]:
    """All that an adapter could leave behind: modules by type, weights, whether they train, attributes."""
    return {
        "modules": {name: type(module) for name, module in model.named_modules()},
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "trains": {name: p.requires_grad for name, p in model.named_parameters()},
        "attributes": set(vars(model)),
        "config": model.config.to_dict(),
        "modes": {name: module.training for name, module in model.named_modules()},
    }


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_its_loss_falls_and_the_frozen_model_is_untouched(compose: Compose, method: str) -> None:
    config = compose(f"prompt=baseline/{method}", "backbone.engine=plain", "trainer.max_epochs=6")
    model = build_backbone(config).model
    before = state(model)
    folder = train_one(config)
    assert build_backbone(config).model is model, "another model was adapted"
    after = state(model)
    for name, weight in before.pop("weights").items():
        assert torch.equal(after["weights"].pop(name), weight), name
    assert after.pop("weights") == {}
    assert after == before
    by_epoch = losses(folder)
    assert by_epoch[-1] < by_epoch[0] - 0.01
    record = folder.record()
    assert record is not None
    assert record.training is not None
    assert (record.status, record.engine, record.training.steps) == ("complete", "plain", 12)


@pytest.mark.parametrize("method", METHODS)
def test_the_counts_of_parameters_are_pefts(compose: Compose, method: str) -> None:
    record = train_one(compose(f"prompt=baseline/{method}", "trainer.max_epochs=1")).record()
    assert record is not None
    trainable, total = get_peft_model(tiny_model("llama"), THEIRS[method]).get_nb_trainable_parameters()
    assert record.parameters is not None
    assert (record.parameters.trainable, record.parameters.total) == (trainable, total)


@pytest.mark.parametrize("method", METHODS)
def test_peft_loads_the_runs_folder_and_predicts_as_the_run_did(
    compose: Compose, folder: Path, method: str
) -> None:
    config = compose(f"prompt=baseline/{method}", "optimizer.lr=0.03")
    run = train_one(config)
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    theirs = PeftModel.from_pretrained(base, str(run.path)).eval()
    data = build_data(config)
    data.encode(tiny_tokenizer(), 128, padded=False)
    (task,) = data.tasks.values()
    rows = [list(example.ids) for example in task.examples("test")]
    with torch.no_grad():
        expected_BC = plain_log_likelihood(
            cast(PreTrainedModel, theirs.get_base_model()), PromptBank(), rows, task.choices
        ).softmax(1)
        frozen_BC = plain_log_likelihood(tiny_model("llama"), PromptBank(), rows, task.choices).softmax(1)
    saved = torch.tensor(pd.read_parquet(run.predictions_path("test"))[["p(yes)", "p(no)"]].to_numpy())
    assert torch.allclose(saved.float(), expected_BC, atol=1e-5)
    assert not torch.allclose(saved.float(), frozen_BC, atol=1e-3)


def test_an_interrupted_run_resumes_to_the_same_bytes(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = ("prompt=baseline/lora", "callbacks.last.every_s=0")
    whole = train_one(compose(*settings))
    config = compose(*settings, f"paths.runs={tmp_path / 'again'}")
    at_batch = LastState.on_train_batch_start

    def interrupted(self: LastState, trainer: Trainer, *rest: Any) -> None:
        at_batch(self, trainer, *rest)
        if trainer.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LastState, "on_train_batch_start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    again = train_one(config)
    record = again.record()
    assert record is not None
    assert record.training is not None
    assert record.training.resumes == 1
    for name in ("adapter_model.safetensors", "predictions_test.parquet"):
        assert (again.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_run_interrupted_after_training_is_only_scored(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("prompt=baseline/lora", "optimizer.lr=0.03")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "score", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    run = train_one(config)
    monkeypatch.undo()
    other = train_one(compose("prompt=baseline/lora", "optimizer.lr=0.03", f"paths.runs={run.path.parent}2"))
    for name in ("adapter_model.safetensors", "predictions_test.parquet"):
        assert (run.path / name).read_bytes() == (other.path / name).read_bytes()


def test_the_next_run_of_the_process_starts_from_the_frozen_model(compose: Compose) -> None:
    alone = train_one(compose("prompt=baseline/lora", "seed=1", "backbone.engine=plain"))
    train_one(compose("prompt=baseline/ia3", "backbone.engine=plain"))
    after = train_one(compose("prompt=baseline/lora", "seed=1", f"paths.runs={alone.path.parent}2"))
    files = [folder.path / "adapter_model.safetensors" for folder in (alone, after)]
    assert files[0].read_bytes() == files[1].read_bytes()


REFUSALS = {
    "joint": (["joint.seed=[0,1]"], "changes the model itself. Train the runs one after another"),
    "stream": (["backbone.engine=stream"], "set backbone.engine=auto or plain"),
    "modules": (["prompt.method.modules=[nothing]"], "Name its modules in prompt.method.modules"),
    "virtual tokens": (['prompt.layout="[soft:3]{input}"'], "prompt=lora has no virtual tokens"),
}


@pytest.mark.parametrize("mistake", REFUSALS)
def test_what_cannot_be_adapted_is_refused_with_the_way_out(compose: Compose, mistake: str) -> None:
    overrides, message = REFUSALS[mistake]
    with pytest.raises(ConfigError, match=message):
        train(compose("prompt=baseline/lora", *overrides))


def test_without_peft_the_extra_is_named(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    own = builtins.__import__

    def without_peft(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "peft":
            raise ImportError(name)
        return own(name, *rest, **named)

    runs = prepare(compose("prompt=baseline/lora"))
    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(ConfigError, match=r"not installed: pip install 'softcue\[peft\]'"):
        build_learners(runs)


@pytest.mark.parametrize("method", ["lora", "probe", "in_context"])
def test_a_baselines_run_is_no_trained_prompt(compose: Compose, method: str) -> None:
    run = train_one(compose(f"prompt=baseline/{method}", "trainer.max_epochs=1"))
    with pytest.raises(RunError, match=f"is of a run of {method}, which leaves no prompt"):
        load(run.path)
