"""The model card: the record's numbers, and its texts as nothing but text."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from softcue.data.task import Task
from softcue.data.template import compose
from softcue.export.card import Shipped, model_card
from softcue.runs.record import RunRecord

EXAMPLE = RunRecord.from_json((Path(__file__).parents[1] / "runs" / "record_v1.json").read_text())
HOSTILE = "x`\n\n```\n# <b>[a](http://b)</b> | *c*\n---\n\"; import os; os.abort() # '"
ESCAPED_LINE = "x` ``` # <b>[a](http://b)</b> | *c* --- \"; import os; os.abort() # '"


def record(text: str = "complaint", *, several: bool = False, **backbone: str) -> RunRecord:
    """A record in which every free text is `text`."""
    task = {
        "name": "airline",
        "template": "Tweet : {tweet} Label :",
        "classes": [text, "other"],
        "verbalizer": {text: text, "other": "fine"},
        "end_token": True,
    }
    data: dict[str, Any] = {"task": task, "max_length": 96}
    return replace(
        EXAMPLE,
        method=text,
        task=text,
        backbone=text,
        dtype=text,
        data_fingerprint=text,
        versions={text: text},
        settings={
            "data": {"tasks": {text: data, "other": data}} if several else data,
            "prompt": {"layout": f"[soft:20]{text}{{input}}"},
            "backbone": {"name": text, **backbone},
            "scoring": {"per_token": False},
        },
    )


def card_of(of: RunRecord, *, base_model: str = "smollm2_135m") -> str:
    data = of.settings["data"]
    tasks = data.get("tasks") or {data["task"]["name"]: data}
    template = compose(of.settings["prompt"]["layout"], "Tweet : {tweet} Label :")
    shipped = Shipped(
        folder="complaints",
        base_model=base_model,
        peft_type="PROMPT_TUNING",
        template=template,
        tasks={name: Task(**of["task"]) for name, of in tasks.items()},
        max_length=96,
    )
    return model_card(of, shipped)


def parsed(card: str) -> tuple[dict[str, Any], list[Token]]:
    """The metadata, and the body as another implementation reads it."""
    found = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1]), MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(
        found[2]
    )


def test_the_scores_are_those_of_the_record() -> None:
    card = card_of(record())
    assert "| part | rows | accuracy | macro-F1 | AUROC |\n| --- | ---: | ---: | ---: | ---: |\n" in card
    assert "| validation | 10 | 0.700 | 0.680 | – |\n| test | 400 | 0.812 | 0.800 | – |\n" in card
    metadata, _ = parsed(card)
    assert metadata["library_name"] == "peft"
    assert metadata["tags"] == ["softcue", "prompt-tuning"]
    (model,) = metadata["model-index"]
    values = {
        (result["dataset"]["split"], metric["type"]): metric["value"]
        for result in model["results"]
        for metric in result["metrics"]
    }
    assert values == {
        ("validation", "accuracy"): 0.7,
        ("validation", "macro_f1"): 0.68,
        ("test", "accuracy"): 0.8125,
        ("test", "macro_f1"): 0.8,
    }


@pytest.mark.parametrize("several", [False, True])
def test_hostile_text_in_a_record_stays_text(several: bool) -> None:
    card = card_of(record(HOSTILE, several=several, repo=HOSTILE, revision=HOSTILE), base_model=HOSTILE)
    metadata, tokens = parsed(card)
    assert metadata["base_model"] == HOSTILE
    first = f"{ESCAPED_LINE} for {ESCAPED_LINE + ', other' if several else 'airline'}"
    tasks = [f"Task 0: {ESCAPED_LINE}", "Task 1: other"] if several else ["The task"]
    shown = [
        "".join(child.content for child in tokens[at + 1].children or ())
        for at, token in enumerate(tokens)
        if token.type == "heading_open"
    ]
    assert [" ".join(heading.split()) for heading in shown] == [first, *tasks, "Scores", "Provenance", "Use"]
    kinds = {token.type for token in tokens} | {c.type for token in tokens for c in token.children or ()}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "em_open", "s_open", "hr"}
    columns = [line.count("th_open") for line in [" ".join(token.type for token in tokens)]]
    assert columns == [2 * len(tasks) + 5 + 2]


@pytest.mark.parametrize("several", [False, True])
def test_hostile_text_in_the_cards_code_is_a_literal(several: bool) -> None:
    of = record(HOSTILE, several=several, repo=HOSTILE, revision=HOSTILE)
    _, tokens = parsed(card_of(of, base_model=HOSTILE))
    fences = [token for token in tokens if token.type == "fence"]
    assert [fence.info for fence in fences] == ["text"] * (1 + several) + ["python"] * 2
    peft, ours = (ast.parse(fence.content) for fence in fences[-2:])
    literals = [node.value for node in ast.walk(peft) if isinstance(node, ast.Constant)]
    # The base model, its revision twice, the number type, and a class with its words; within the row's text.
    assert literals.count(HOSTILE) == 6
    assert any(isinstance(one, str) and HOSTILE in one for one in literals)
    for tree in (peft, ours):
        imported = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        assert imported <= {"torch", "softcue"}


def test_a_run_without_commit_or_training_says_so() -> None:
    card = card_of(replace(record(), git=None, training=None))
    assert "| training | none |" in card
    assert "| commit | unknown |" in card
