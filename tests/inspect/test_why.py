"""Why a prompt might not learn: what the model is asked, and how the user is told."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
import torch

from softcue.contracts import PromptBank
from softcue.inspect.reading import read
from softcue.inspect.text_attention import TextView
from softcue.inspect.why import attention, why
from softcue.runs.symptoms import Symptom
from softcue.trained import TrainedPrompt, load
from tests.inspect.conftest import TrainFast
from tests.inspect.test_command import Inspect, inspect

__all__ = ["inspect"]


def checks(trained: TrainedPrompt) -> dict[str, Symptom]:
    return {symptom.name: symptom for symptom in why(trained, prompt=0, num_rows=3)}


def scaled(trained: TrainedPrompt, factor: float) -> TrainedPrompt:
    """The same run with a prompt of other norms."""
    numbers: dict[str, Any] = {name: tensor * factor for name, tensor in trained.bank.tensors().items()}
    return replace(trained, bank=PromptBank(**numbers))


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning"])
def test_norms_far_from_those_of_words_or_text_are_a_sign(train_fast: TrainFast, method: str) -> None:
    # Two updates at the usual rate move this small model's words far.
    trained = load(train_fast(f"prompt={method}", "prompt.learning_rate=0"))
    found = {factor: checks(scaled(trained, factor))["norm"] for factor in (1e-3, 1.0, 1e3)}
    assert [sign.is_found for sign in found.values()] == [True, False, True]
    assert "prompt/initialiser=text" in found[1e-3].way_out
    assert "lower prompt.learning_rate" in found[1e3].way_out


def test_a_prompt_that_the_loss_does_not_depend_on_is_a_sign(train_fast: TrainFast) -> None:
    trained = load(train_fast("prompt=prompt_tuning"))
    found, none = checks(trained)["gradient"], checks(scaled(trained, 0.0))["gradient"]
    assert not found.is_found
    assert "at the start" in found.measured
    # |gradient| times a prompt of zeros is nothing.
    assert none.is_found
    assert "/ loss: 0, " in none.measured


def test_attention_is_that_of_the_reading_and_near_zero_a_sign(train_fast: TrainFast) -> None:
    trained = load(train_fast("prompt=prompt_tuning"))
    share = float(read(trained, prompt=0, num_nearest=1, num_rows=3).attention_LP.sum(dim=1).mean())
    assert checks(trained)["attention"].measured.startswith(f"{share:.1%} ")
    empty_LN = torch.zeros(2, 1)
    little = TextView(attention_LP=torch.full((2, 3), 1e-3), key_norm_LN=empty_LN, value_norm_LN=empty_LN)
    sign = attention(little)
    assert sign is not None
    assert sign.is_found
    assert attention(replace(little, attention_LP=torch.full((2, 3), torch.nan))) is None


def test_every_check_of_a_run_that_learnt_nothing_is_listed_with_its_way_out(
    train_fast: TrainFast, inspect: Inspect
) -> None:
    folder = train_fast("prompt=prompt_tuning", "prompt.learning_rate=0", "trainer.max_epochs=2")
    printed = inspect(f"run={folder}", "why=true", "rows=2", "format=csv")
    lines = {line["check"]: line for line in csv.DictReader(io.StringIO(printed))}
    assert list(lines) == [
        *("predicted classes", "training loss", "label tokens", "norm", "gradient", "attention")
    ]
    assert lines["training loss"]["is_found"] == "look here"
    assert lines["training loss"]["try"] == "a larger trainer.max_epochs"
    assert lines["norm"]["try"] == ""


def test_a_run_that_looks_failed_says_so_at_its_end(train_fast: TrainFast) -> None:
    folder = train_fast("prompt=prompt_tuning", "prompt.learning_rate=0", "trainer.max_epochs=2")
    log = (folder / "run.log").read_text()
    assert "WARNING training loss: " in log
    assert f"softcue-inspect run={folder} why=true" in log


def test_a_task_of_texts_is_checked_without_classes(train_fast: TrainFast) -> None:
    trained = load(train_fast("data=airline_summaries", "data.max_target_length=8"))
    assert {"norm", "gradient"} <= checks(trained).keys()
    assert {"predicted classes", "label tokens"}.isdisjoint(checks(trained))
