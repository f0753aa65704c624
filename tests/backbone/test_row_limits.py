"""How long a row a model can run, from its config."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

from softcue.backbone.row_limits import attention_window, max_positions, max_stream_positions, rope_limit
from tests.backbone.zoo import LONG_ROPE


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"max_position_embeddings": 64}),
        ("gpt2", {"n_positions": 64}),
        ("mpt", {"max_seq_len": 64}),
        ("whisper", {"max_target_positions": 64}),
    ],
)
def test_the_number_of_positions_is_found_under_each_familys_name(
    family: str, settings: dict[str, Any]
) -> None:
    assert max_positions(AutoConfig.for_model(family, **settings)) == 64


def test_a_model_without_positions_gets_a_default() -> None:
    assert max_positions(AutoConfig.for_model("mamba")) == 2048


def test_a_stream_keeps_rows_within_a_sliding_window() -> None:
    config = AutoConfig.for_model("mistral", sliding_window=16, max_position_embeddings=64)
    assert (attention_window(config), max_stream_positions(config)) == (16, 16)
    off = AutoConfig.for_model("qwen2_moe", sliding_window=0)
    assert attention_window(off) is None


def test_a_stream_keeps_rows_within_the_short_form_of_longrope() -> None:
    config = AutoConfig.for_model("llama", rope_parameters=dict(LONG_ROPE), max_position_embeddings=512)
    assert (rope_limit(config), max_stream_positions(config)) == (64, 64)
    assert rope_limit(AutoConfig.for_model("llama")) is None
