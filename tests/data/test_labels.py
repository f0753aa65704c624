"""Labels that can never be chosen."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softcue.build.data import build_data
from softcue.build.prompted import build_prompted_backbone
from softcue.data.labels import never_chosen
from softcue.data.task import Task
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.tiny_backbone import save_tiny_backbone


def test_a_label_that_begins_with_another_is_never_more_likely(task: Task) -> None:
    three = replace(
        task, classes=("a", "b", "c"), verbalizer={"a": "no", "b": "no complaint", "c": "complaint"}
    )
    assert never_chosen(three, ((5,), (5, 6), (6,))) == [("a", "b")]
    assert never_chosen(three, ((5, 2), (5, 6, 2), (6, 2))) == []


@pytest.mark.parametrize(
    ("overrides", "warned"), [([], True), (["scoring=mean"], False), (["data.task.end_token=true"], False)]
)
def test_building_the_task_warns_of_it_and_names_the_way_out(
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
    warnings = [message for message in caplog.messages if "it is never more likely" in message]
    assert bool(warnings) == warned
    assert all("data.task.end_token=true or scoring=mean" in message for message in warnings)
