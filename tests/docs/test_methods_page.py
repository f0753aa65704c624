"""The table of methods is made of the methods' files, records and measurements that are committed."""

from __future__ import annotations

import json

import pytest

from experiments.methods.page import HERE, NOT_MEASURED, methods, page
from tests.composing import options

STEPS = {step["method"]: step for step in json.loads((HERE / "steps.json").read_text())["steps"]}
# The sizes of SmolLM2-135M, the layouts' virtual tokens, and the default widths and ranks of the methods.
D, LAYERS, HEADS, K = 576, 30, 3, 64
P, M, RANK = 20, 128, 8
PREFIX = P * LAYERS * HEADS * 2 * K


def test_the_table_has_a_row_for_every_method() -> None:
    rows = (HERE / "methods.md").read_text().splitlines()
    missing = [
        one.choice for one in methods() if not any(row.startswith(f"| `{one.choice}` |") for row in rows)
    ]
    assert missing == [], "run `make docs`"


@pytest.mark.slow  # reads and compares a hundred records
def test_the_table_is_that_of_the_committed_files() -> None:
    assert (HERE / "methods.md").read_text() == page(), "run `make docs`"


def test_every_method_with_parameters_is_measured() -> None:
    assert STEPS.keys() == set(options("prompt")) - set(NOT_MEASURED)


def test_every_method_names_its_paper_and_its_number_of_parameters() -> None:
    named = [method for method in methods() if method.choice not in ("prompt=hard_prompt", "prompt=saved")]
    assert [method.choice for method in named if not method.papers] == []
    trained = [method for method in named if method.choice not in ("chain=ppt", "prompt=ensemble")]
    assert [method.choice for method in trained if "parameters" not in method.trained] == []


@pytest.mark.parametrize(
    ("methods", "trainable"),
    [
        ("prompt_tuning prompt_tuning_suffix", P * D),
        ("p_tuning p_tuning_anchored p_tuning_infix", P * D + D * (2 * M + 1) + M * (M + 2)),
        ("p_tuning_lstm", P * D + D * (10 * M + 1) + M * (36 * M + 34)),
        ("prefix_tuning", PREFIX),
        ("prefix_tuning_gated", PREFIX + LAYERS * HEADS),
        ("prefix_tuning_projected", P * HEADS * K + (HEADS * K + 1) * M + (M + 1) * PREFIX // P),
        ("cartridge", PREFIX * (P - 1) // P),
        ("residual", P * D + 2 * D * M + M + 3 * D),
        ("low_rank", RANK * (P + D)),
        ("superposition", P * (P + M)),
        ("black_box", 500),
        ("smop", 4 * 5 * D + 4 * D),
        ("idpg", 17 * 5 * D + 16 * D + 16),
        ("attempt", P * D + 2 * 20 * D + 2 * D),
        ("dept", 8 * D + 10 * (64 + D)),
        ("late", P * D),
        ("prefix_tuning_late", PREFIX // 2),
        ("xprompt", 8 * 16 // 2 * D // 16),
    ],
)
def test_as_many_parameters_are_trained_as_the_methods_file_says(methods: str, trainable: int) -> None:
    assert {STEPS[method]["trainable"] for method in methods.split()} == {trainable}


def test_what_is_shipped_is_embeddings_or_keys_and_values() -> None:
    tokens = {"xprompt": 8, "cpt": 100}
    # A router ships all its prompts, attention its sources too, and each what weighs the prompts.
    tokens |= {"smop": 4 * 5 + 4, "attempt": 3 * P + 2 * 20 + 2, "idpg": 17 * 5 + 16, "dept": 8 + 10}
    bias = {"idpg": 16, "dept": 10 * 64}
    for method, step in STEPS.items():
        of_layers = {"in every layer": PREFIX, "in layers 15 and up": PREFIX // 2}
        numbers = of_layers.get(step["place"].rpartition(", ")[2], tokens.get(method, P) * D)
        assert step["shipped"] == numbers + bias.get(method, 0), method
