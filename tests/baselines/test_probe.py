"""The probe against scikit-learn on the states of a plain forward."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from softcue.build.data import build_data
from softcue.contracts import PromptBank
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Part
from softcue.runs.record import Parameters
from tests.baselines.conftest import Compose
from tests.running import train_one
from tests.tiny import HIDDEN, plain_hidden, tiny_model, tiny_tokenizer


def plain_states(data: PromptData, part: Part) -> np.ndarray:
    """The last hidden state of each row, one row at a time."""
    model = tiny_model("llama")
    rows = [
        plain_hidden(model, PromptBank(), list(each.ids), [0], 0)[-1].detach() for each in data.examples(part)
    ]
    return torch.stack(rows).numpy()


def test_the_probe_equals_scikit_learn_on_the_states_of_a_plain_forward(compose: Compose) -> None:
    config = compose("prompt=baseline/probe")
    folder = train_one(config)
    data = build_data(config)
    data.encode(tiny_tokenizer(), 128, padded=False)
    (task,) = data.tasks.values()
    oracle = make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000)
    )
    oracle.fit(plain_states(task, "train"), task.targets("train"))
    saved = pd.read_parquet(folder.predictions_path("test"))[["p(yes)", "p(no)"]].to_numpy()
    np.testing.assert_allclose(saved, oracle.predict_proba(plain_states(task, "test")), atol=1e-4)
    record = folder.record()
    assert record is not None
    assert record.parameters == Parameters(
        trainable=HIDDEN + 1,
        shipped=HIDDEN + 1,
        total=sum(p.numel() for p in tiny_model("llama").parameters()) + HIDDEN + 1,
    )
    assert (record.backbone, record.engine, record.training) == ("tiny", "stream", None)
