"""Labels of which one can never be chosen."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softcue.build import build_data, build_prompted_backbone
from softcue.data.labels import never_chosen
from softcue.data.task import Task
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.tiny_backbone import save_tiny_backbone


def test_a_label_that_continues_another_is_never_the_more_likely(task: Task) -> None:
    three = replace(
        task, classes=("a", "b", "c"), verbalizer={"a": "no", "b": "no complaint", "c": "complaint"}
    )
    assert never_chosen(three, ((5,), (5, 6), (6,))) == [("a", "b")]
    assert never_chosen(three, ((5, 2), (5, 6, 2), (6, 2))) == []


@pytest.mark.parametrize(
    ("overrides", "warned"), [([], True), (["scoring=mean"], False), (["data.task.end_token=true"], False)]
)
def test_it_is_said_with_the_way_out_when_the_task_is_built(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, overrides: list[str], warned: bool
) -> None:
    torch.manual_seed(0)
    folder = save_tiny_backbone(tmp_path / "backbone", CACHE)
    settings = train_config(
        *("experiment=quickstart", "backbone=local", f"backbone.path={folder}", "backbone.name=tiny"),
        *("data.task.verbalizer.complaint=no", f"paths.cache={CACHE}", *overrides),
    )
    with caplog.at_level(logging.WARNING):
        build_prompted_backbone(settings, build_data(settings))
    said = [message for message in caplog.messages if "it is never more likely" in message]
    assert bool(said) == warned
    assert all("data.task.end_token=true or scoring=mean" in message for message in said)
