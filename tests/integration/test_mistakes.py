"""Bad input, each with its message: the value, the limit and the way out; and nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from softcue.errors import LayerError, SoftcueError
from softcue.plan import prepare
from tests.running import train_one

TABLE = [
    "data=table",
    "data.task.name=mine",
    "data.task.template='{text} :'",
    "data.task.classes=[a,b]",
    "data.task.verbalizer={a: a, b: b}",
]
STOPPING = ["callbacks=early_stopping", "callbacks.progress_bar=null"]
MISTAKES = {
    "a file that is not there": (
        [*TABLE, "data.source.path=gone.csv"],
        r"gone\.csv",
    ),
    "an unknown column": (
        ["data.task.template='Tweet : {tweet} Label :'"],
        r"data\.task\.template uses column 'tweet'; airline_complaints has .* Rename the column",
    ),
    "a prompt longer than the context": (
        ["prompt.layout='[soft:9000]{input}'"],
        r"9000.*2048",
    ),
    "a key-value prompt that is no prefix": (
        ["prompt=prefix_tuning", "prompt.layout='{input}[soft:5]'"],
        r'prefix_tuning puts keys and values in front of the row .* write "\[soft:5\]\{input\}"',
    ),
    "a checkpoint chosen by test rows": (
        [*STOPPING, "callbacks.early_stopping.monitor=test/macro_f1", "split.num_validation=8"],
        r"callbacks monitor 'test/macro_f1'; only validation/ metrics",
    ),
    "early stopping without validation rows": (
        STOPPING,
        r"callbacks monitor 'validation/macro_f1', but there are no validation rows; set split\.num_val",
    ),
    "a setting that must be given": (
        ["backbone=local"],
        r"backbone\.path has no default; give it as backbone\.path=",
    ),
    "a layer above the last": (
        ["prompt=late", "prompt.method.first_layer=30"],
        r"prompt\.method\.first_layer is 30, and backbone \S+ has \d+ layers: choose one from 0 to \d+, or",
    ),
    "too many training rows": (
        ["split.num_train=99999"],
        r"split\.num_train is 99999; \d+ labelled rows are left",
    ),
    "a hub that cannot be reached": (
        ["backbone=bloomz_560m"],
        r"backbone\.repo=bigscience/bloomz-560m: .* HF_HUB_OFFLINE is set\. .* backbone=smollm2_135m",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_the_value_and_the_way_out(
    quickstart: Callable[..., DictConfig], mistake: str, tmp_path: Path
) -> None:
    overrides, message = MISTAKES[mistake]
    with pytest.raises(SoftcueError, match=message):
        train_one(quickstart(*overrides))
    assert [path.name for path in tmp_path.rglob("*.tmp")] == []
    for record in tmp_path.rglob("record.json"):
        assert '"status": "failed"' in record.read_text()


def test_a_layer_above_the_last_is_refused_before_the_embedded_model_is_loaded(
    real_quickstart: Callable[..., DictConfig],
) -> None:
    with pytest.raises(LayerError, match="has 30 layers: choose one from 0 to 29"):
        prepare(real_quickstart("prompt=late", "prompt.method.first_layer=30"))


def test_a_run_folder_that_cannot_be_written_is_named_before_anything_is_trained(
    quickstart: Callable[..., DictConfig],
) -> None:
    with pytest.raises(SoftcueError, match=r"/dev/null/runs/.* cannot be written .* paths\.runs="):
        train_one(quickstart("paths.runs=/dev/null/runs"))


def test_a_precision_that_would_round_the_prompt_is_refused(quickstart: Callable[..., DictConfig]) -> None:
    with pytest.raises(SoftcueError, match=r"trainer\.precision=bf16-true casts the prompt itself"):
        train_one(quickstart("trainer.precision=bf16-true"))
