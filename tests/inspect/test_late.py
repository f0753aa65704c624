"""Runs of prompts that enter above the first layer, used again: they work, or are refused in one sentence."""

from __future__ import annotations

import pandas as pd
import pytest

from softcue.errors import ConfigError, RunError
from softcue.export.adapter import peft_files
from softcue.export.vllm import vllm_files
from softcue.inspect.reading import read
from softcue.inspect.why import why
from softcue.trained import load
from tests.inspect.conftest import TrainFast

METHODS = ["late", "prefix_tuning_late"]


@pytest.mark.parametrize("method", METHODS)
def test_a_late_run_is_loaded_and_checked_and_not_exported(train_fast: TrainFast, method: str) -> None:
    trained = load(train_fast(f"prompt={method}"))
    assert trained.bank.first_layer == 1
    symptoms = {symptom.name for symptom in why(trained, prompt=0, num_rows=2)}
    assert {"gradient", "attention", "label tokens"} <= symptoms
    with pytest.raises(RunError, match=r"enters at layer 1.*why=true checks it"):
        read(trained, prompt=0, num_nearest=1, num_rows=1)
    for files, whose in ((peft_files, "PEFT"), (vllm_files, "vLLM")):
        with pytest.raises(ConfigError, match=f"enters at layer 1, and {whose} takes prompts at the first"):
            files({trained.task.name: trained}, name="prompt")
    saved = pd.read_parquet(trained.folder / "predictions_test.parquet").to_dict("records")
    for row in saved:
        again = trained.predict(str(row["text"])).probabilities["complaint"]
        assert again == pytest.approx(row["p(complaint)"], abs=1e-6)
