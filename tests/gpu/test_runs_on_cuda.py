"""Whole runs on a GPU: bfloat16-mixed training, memory in the record, exact resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

import softcue
from softcue.execute import train
from softcue.training.recorder import Recorder
from tests.resume.conftest import compose, tiny, tiny_backbone
from tests.running import train_one

__all__ = ["compose", "tiny", "tiny_backbone"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
Compose = Callable[..., DictConfig]
METHODS = ("prompt_tuning", "prompt_tuning_suffix", "prefix_tuning", "p_tuning", "p_tuning_lstm")


@pytest.mark.parametrize("prompt", METHODS)
@pytest.mark.parametrize("engine", ["stream", "plain"])
def test_a_mixed_precision_run_is_recorded_with_its_gpu(compose: Compose, prompt: str, engine: str) -> None:
    folder = train_one(compose("trainer=gpu", f"prompt={prompt}", f"backbone.engine={engine}"))
    record = folder.record()
    assert record is not None
    assert record.status == "complete"
    assert record.hardware.gpu == torch.cuda.get_device_name()
    assert record.peak_memory_mb is not None
    assert record.peak_memory_mb.gpu is not None
    assert record.peak_memory_mb.gpu > 0


def test_a_run_gives_the_scores_that_it_gives_on_the_cpu(compose: Compose, tmp_path: Path) -> None:
    on_gpu = train_one(compose("trainer=gpu", "trainer.precision=32-true")).record()
    on_cpu = train_one(compose(f"paths.runs={tmp_path / 'cpu'}")).record()
    assert on_gpu is not None
    assert on_cpu is not None
    gpu, cpu = on_gpu.metrics, on_cpu.metrics
    assert gpu["test"]["perplexity"] == pytest.approx(cpu["test"]["perplexity"], rel=1e-3)


@pytest.mark.parametrize("prompt", METHODS)
def test_an_interrupted_run_ends_with_the_same_bytes(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    whole = train_one(compose("trainer=gpu", f"prompt={prompt}", f"paths.runs={tmp_path / 'whole'}"))
    config = compose("trainer=gpu", f"prompt={prompt}", f"paths.runs={tmp_path / 'cut'}")
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(Recorder, "record_training", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    resumed = train_one(config)
    assert resumed.prompt_path.read_bytes() == whole.prompt_path.read_bytes()


def test_a_second_run_of_a_process_starts_as_the_first(compose: Compose) -> None:
    """The model is on the GPU by then, and some methods start from what it computes."""
    for seed in (0, 1):
        folder = train_one(compose("trainer=gpu", "prompt=prefix_tuning_gated", f"seed={seed}"))
        record = folder.record()
        assert record is not None
        assert record.status == "complete"


def test_a_trained_prompt_predicts_on_the_gpu(compose: Compose) -> None:
    prompt = softcue.load(train_one(compose("trainer=gpu")).path)
    assert prompt.lm.device.type == "cuda"
    assert prompt.predict("you lost my bag again").label in prompt.task.classes
