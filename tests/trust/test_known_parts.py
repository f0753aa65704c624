"""The tables of our own parts are complete: what our configs name, a record may name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from omegaconf import OmegaConf

from softcue.contracts import SoftPrompt
from softcue.inspect.remake import INITIALISERS, METHODS, SOURCES, SPLITS
from softcue.received.parts import BACKBONES, ENSEMBLE, FORMS, MULTITASK, SCORINGS, TASKS
from tests.composing import options, train_config

UNTRAINED = {
    "softcue.prompts.hard_prompt.HardPrompt",
    "softcue.prompts.saved_prompt.SavedPrompt",
    ENSEMBLE,
}
GROUPS: dict[str, tuple[str, Mapping[str, Callable[..., Any]]]] = {
    "backbone": ("backbone", BACKBONES),
    "data": ("data.task", TASKS),
    "split": ("split", SPLITS),
    "scoring": ("scoring", SCORINGS),
    "prompt": ("prompt.method", {**METHODS, **dict.fromkeys(UNTRAINED, str)}),
    "prompt/initialiser": ("prompt.method.initialiser", INITIALISERS),
}


@pytest.mark.parametrize("group", GROUPS)
def test_every_part_that_our_configs_name_is_known(group: str) -> None:
    place, known = GROUPS[group]
    for option in options(group):
        tasks = {"tweet_topics": "data.tasks.apple.task", "glue_sources": "data.tasks.mnli.task"}
        node = OmegaConf.select(train_config(f"{group}={option}"), tasks.get(option, place))
        assert node._target_ in known, option


def test_every_source_of_rows_is_known() -> None:
    for option in options("data"):
        data = train_config(f"data={option}").data
        for task in data.tasks.values() if "tasks" in data else [data]:
            assert task.source._target_ in SOURCES, option


def test_the_form_of_every_trained_method_is_known() -> None:
    assert METHODS.keys() == FORMS.keys()
    assert MULTITASK in FORMS
    for name, make in METHODS.items():
        assert isinstance(make, type)
        assert issubclass(make, SoftPrompt)
        assert FORMS[name] == ("keys and values" if make.in_layers else "embeddings")
