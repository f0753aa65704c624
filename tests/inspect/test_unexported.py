"""Runs of prompts that no other tool has a place for: they work, or are refused in one sentence."""

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

LATE = ("enters at layer 1", "takes prompts at the first")
BY_ROW = ("whose prompt differs from row to row", "takes one for all rows")
REFUSALS = {"late": LATE, "prefix_tuning_late": LATE, "smop": BY_ROW, "dept": BY_ROW}
"""By method: why its tables are not shown, and what PEFT and vLLM do instead."""


@pytest.mark.parametrize("method", REFUSALS)
def test_such_a_run_is_loaded_and_checked_and_not_exported(train_fast: TrainFast, method: str) -> None:
    trained, (reading, exporting) = load(train_fast(f"prompt={method}")), REFUSALS[method]
    symptoms = {symptom.name for symptom in why(trained, prompt=0, num_rows=2)}
    assert {"gradient", "attention", "label tokens"} <= symptoms
    assert ("norm" in symptoms) == (method != "late")
    with pytest.raises(ConfigError, match=r"prompt is 1; .* holds 1"):
        why(trained, prompt=1, num_rows=2)
    with pytest.raises(RunError, match=f"{reading}.*why=true checks it"):
        read(trained, prompt=0, num_nearest=1, num_rows=1)
    for files, whose in ((peft_files, "PEFT"), (vllm_files, "vLLM")):
        with pytest.raises(ConfigError, match=f"{whose} {exporting}"):
            files({trained.task.name: trained}, name="prompt")
    saved = pd.read_parquet(trained.folder / "predictions_test.parquet").to_dict("records")
    for row in saved:
        again = trained.predict(str(row["text"])).probabilities["complaint"]
        assert again == pytest.approx(row["p(complaint)"], abs=1e-6)
