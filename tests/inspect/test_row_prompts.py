"""A run of a prompt that looks at the row, used again: it works, or is refused in one sentence."""

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


def test_a_run_of_row_prompts_is_loaded_and_checked_and_not_exported(train_fast: TrainFast) -> None:
    trained = load(train_fast("prompt=smop"))
    symptoms = {symptom.name for symptom in why(trained, prompt=0, num_rows=2)}
    assert {"norm", "gradient", "attention", "label tokens"} <= symptoms
    with pytest.raises(ConfigError, match=r"prompt is 1; .* holds 1"):
        why(trained, prompt=1, num_rows=2)
    with pytest.raises(RunError, match=r"differs from row to row.*why=true checks it"):
        read(trained, prompt=0, num_nearest=1, num_rows=1)
    for files, whose in ((peft_files, "PEFT"), (vllm_files, "vLLM")):
        with pytest.raises(ConfigError, match=f"a prompt for each row, and {whose} takes one for all rows"):
            files({trained.task.name: trained}, name="prompt")
    saved = pd.read_parquet(trained.folder / "predictions_test.parquet").to_dict("records")
    for row in saved:
        again = trained.predict(str(row["text"])).probabilities["complaint"]
        assert again == pytest.approx(row["p(complaint)"], abs=1e-6)
