"""Every run keeps which engine computed it: in its record, and with the reason in its log."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.running import train_one
from tests.tiny_backbone import save_tiny_backbone


@pytest.mark.parametrize(
    ("engine", "reason"),
    [("auto", "softcue's tests verify this family"), ("plain", "backbone.engine=plain")],
)
def test_each_run_of_a_process_keeps_its_engine_and_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, engine: str, reason: str
) -> None:
    caplog.set_level(logging.INFO)  # as softcue-train sets it
    overrides = [
        "experiment=quickstart",
        "backbone=local",
        f"backbone.path={save_tiny_backbone(tmp_path / 'backbone', CACHE)}",
        "backbone.name=tiny",
        f"backbone.engine={engine}",
        "split.num_train=4",
        "split.num_test=4",
        "trainer.max_epochs=1",
        "callbacks.progress_bar=null",
        "trainer.enable_progress_bar=false",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={CACHE}",
    ]
    taken = "plain" if engine == "plain" else "stream"
    for seed in (0, 1):
        folder = train_one(train_config(*overrides, f"seed={seed}"))
        record = folder.record()
        assert record is not None
        assert record.engine == taken
        line = f"tiny (LlamaForCausalLM) runs on the {taken} engine: {reason}"
        assert folder.log_path.read_text().count(line) == 1
