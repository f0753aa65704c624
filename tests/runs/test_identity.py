"""A run's name follows what determines its result, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from softcue.runs.identity import WITHOUT_EFFECT, identity, run_id

SETTINGS: dict[str, Any] = {
    "seed": 0,
    "paths": {"runs": "runs"},
    "logger": {"csv": {"save_dir": "runs"}},
    "hydra": {"job": {"num": 0}},
    "data": {"name": "airline_complaints", "batch_size": 8, "num_workers": 0},
    "backbone": {"name": "smollm2_135m", "cache_dir": "a"},
    "prompt": {"num_tokens": 20},
    "trainer": {"max_steps": 100, "precision": "32", "accelerator": "cpu", "devices": 1},
    "callbacks": {
        "rich_progress_bar": {"refresh_rate": 1},
        "early_stopping": {"patience": 5},
        "last": {"dirpath": None},
    },
}


def _named(settings: dict[str, Any]) -> str:
    return run_id(method="prompt_tuning", settings=settings, data_fingerprint="f")


def _changed(path: str, value: Any) -> dict[str, Any]:
    settings = copy.deepcopy(SETTINGS)
    *parents, last = path.split(".")
    group = settings
    for parent in parents:
        group = group[parent]
    group[last] = value
    return settings


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("data.batch_size", 4),
        ("prompt.num_tokens", 5),
        ("prompt.init", None),
        ("trainer.max_steps", 200),
        ("trainer.precision", "bf16-mixed"),
        ("callbacks.early_stopping.patience", 6),
    ],
)
def test_a_setting_that_determines_the_result_changes_the_name(path: str, value: Any) -> None:
    assert _named(_changed(path, value)) != _named(SETTINGS)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("paths.runs", "/elsewhere"),
        ("logger.wandb", {"project": "p"}),
        ("hydra.job.num", 3),
        ("data.num_workers", 4),
        ("backbone.cache_dir", "b"),
        ("trainer.accelerator", "gpu"),
        ("trainer.devices", 8),
        ("threads", 1),
        ("trainer.log_every_n_steps", 1),
        ("callbacks.rich_progress_bar.refresh_rate", 9),
        ("callbacks.last.dirpath", "runs/a"),
        ("trainer.default_root_dir", "runs/a"),
        ("dry", True),
    ],
)
def test_paths_loggers_and_hardware_leave_the_name_alone(path: str, value: Any) -> None:
    assert _named(_changed(path, value)) == _named(SETTINGS)


def test_the_order_of_settings_leaves_the_name_alone() -> None:
    assert _named(dict(reversed(SETTINGS.items()))) == _named(SETTINGS)


def test_other_data_and_another_method_change_the_name() -> None:
    name = run_id(method="prompt_tuning", settings=SETTINGS, data_fingerprint="f")
    assert run_id(method="prompt_tuning", settings=SETTINGS, data_fingerprint="g") != name
    assert run_id(method="p_tuning", settings=SETTINGS, data_fingerprint="f") != name


def test_the_name_is_the_method_and_twelve_hexadecimal_digits() -> None:
    method, digits = _named(SETTINGS).split("-")
    assert method == "prompt_tuning"
    assert len(bytes.fromhex(digits)) == 6


def test_identity_keeps_the_settings_as_they_stand_and_their_owner_untouched() -> None:
    before = copy.deepcopy(SETTINGS)
    kept = identity(SETTINGS)
    assert before == SETTINGS
    assert kept["data"] == {"name": "airline_complaints", "batch_size": 8}
    assert kept["callbacks"] == {"early_stopping": {"patience": 5}}
    assert not set(WITHOUT_EFFECT) & set(kept)
