"""The ready text sets, read from a hub that holds a few rows in their columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import pytest

from softcue.build.data import build_data
from softcue.data.prompt_data import PromptData
from tests.composing import train_config
from tests.hub.server import Hub

Rows = Sequence[Mapping[str, str | Sequence[str]]]
SETS: dict[str, tuple[str, str, Rows]] = {
    "e2e_nlg": (
        "GEM/gem",
        "e2e_nlg",
        [
            {
                "gem_id": f"e2e-{at}",
                "meaning_representation": f"name[The Plough {at}], food[English]",
                "target": f"The Plough {at} is English.",
                "references": [f"The Plough {at} serves English food."],
            }
            for at in range(6)
        ],
    ),
    "gsm8k": (
        "openai/gsm8k",
        "main",
        [
            {"question": f"What is {at} and 1?", "answer": f"It is {at + 1}.\n#### {at + 1}"}
            for at in range(6)
        ],
    ),
    "xsum": (
        "EdinburghNLP/xsum",
        "default",
        [
            {"document": f"Train {at} was late.", "summary": f"Late train {at}.", "id": str(at)}
            for at in range(6)
        ],
    ),
}


def serve(hub: Hub, folder: Path, *, repo: str, subset: str, rows: Rows) -> None:
    files = {}
    for split in ("train", "test"):
        path = folder / split
        datasets.Dataset.from_list([dict(row) for row in rows]).to_parquet(str(path))
        files[f"{subset}/{split}/0000.parquet"] = path.read_bytes()
    hub.files[f"datasets/{repo}"] = files


@pytest.mark.parametrize("option", SETS)
def test_a_text_set_is_read_as_the_hub_holds_it(hub: Hub, tmp_path: Path, option: str) -> None:
    repo, subset, rows = SETS[option]
    serve(hub, tmp_path, repo=repo, subset=subset, rows=rows)
    data = build_data(
        train_config(f"data={option}", "split=few_shot", "split.num_train=4", "split.num_test=null")
    )
    assert isinstance(data, PromptData)
    data.load()
    found = [json.loads(texts) for texts in data.parts.test["references"]]
    texts = {"e2e_nlg": ("target", "references"), "gsm8k": ("answer",), "xsum": ("summary",)}[option]
    expected = [
        [one for name in texts for one in ([row[name]] if isinstance(row[name], str) else list(row[name]))]
        for row in rows
    ]
    assert found == expected
    assert len(data.ids("train")) == 4
