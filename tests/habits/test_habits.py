"""What users of Lightning and Hydra do by habit works, or says in one line why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from softcue.build.trainer import build_trainer
from softcue.errors import SoftcueError
from softcue.runs.record import RunRecord
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.own_data.conftest import write_reviews
from tests.running import train_one
from tests.tiny_backbone import save_tiny_backbone


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone"), CACHE)


@pytest.fixture
def common(tiny_backbone: Path, tmp_path: Path) -> list[str]:
    return [
        *("backbone=local", f"backbone.path={tiny_backbone}", "data=table"),
        *(f"data.source.path={write_reviews(tmp_path, ('good', 'bad'))}", f"paths.cache={CACHE}"),
        *(f"paths.runs={tmp_path / 'runs'}", "split=few_shot", "split.num_train=16", "split.num_test=6"),
    ]


def trained(config: DictConfig) -> RunRecord:
    record = train_one(config).record()
    assert record is not None
    assert record.status == "complete"
    return record


COSINE = [
    "scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingLR",
    *("~scheduler.name", "~scheduler.warmup_fraction", "+scheduler.T_max=null"),
]
ONE_CYCLE = [
    "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
    *("~scheduler.name", "~scheduler.warmup_fraction", "+scheduler.max_lr=0.01"),
]
WORK = {
    "no bar": ["trainer.enable_progress_bar=false"],
    "a number of steps": ["trainer.max_steps=3"],
    "no logger": ["logger=null"],
    "no callbacks": ["callbacks=null"],
    "no saved state": ["callbacks.last=null", "callbacks.progress_bar=null"],
    "no scheduler": ["scheduler=null"],
    "cosine annealing": COSINE,
    "one cycle": ONE_CYCLE,
    "a callback by target": ["+callbacks.timer._target_=lightning.pytorch.callbacks.Timer"],
    "several loggers": ["logger=[csv,tensorboard]"],
}


@pytest.mark.parametrize("habit", WORK)
def test_it_works(habit: str, common: list[str]) -> None:
    record = trained(train_config(*common, "trainer.max_epochs=2", *WORK[habit]))
    assert record.training is not None
    assert record.training.steps == (3 if habit == "a number of steps" else 4)


def test_the_rate_of_cosine_annealing_ends_at_zero_after_all_steps(common: list[str]) -> None:
    quiet = ["trainer.enable_progress_bar=false", "trainer.max_epochs=2"]
    folder = train_one(train_config(*common, *quiet, *COSINE)).path
    header, *rows = (folder / "metrics.csv").read_text().splitlines()
    rates = [row.split(",")[header.split(",").index("learning_rate")] for row in rows]
    found = [float(rate) for rate in rates if rate]
    assert found[-1] == pytest.approx(0, abs=1e-9)
    assert found[0] == pytest.approx(found[1] + 0.5 * 0.1, rel=1) or found[0] > found[1]


REFUSED = {
    "a GPU that is not there": (["trainer=gpu"], r"trainer: .*lightning\.Trainer .*[Nn]o supported gpu"),
    "an unknown argument of the Trainer": (["+trainer.max_epoch=3"], r"trainer: .*max_epoch"),
    "an unknown argument of a callback": (["+callbacks.last.every=3"], r"callbacks\.last: .*every"),
    "a class that is not there": (
        ["+callbacks.x._target_=no.such.Thing"],
        r"callbacks\.x: no\.such\.Thing is not found",
    ),
    "a scheduler with foreign settings": (COSINE[:1], r"scheduler: CosineAnnealingLR does not take .*name"),
    "a scheduler that waits": (
        ["scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"],
        r"ReduceLROnPlateau, which waits for a metric",
    ),
    "a null that another setting needs": (
        ["callbacks=early_stopping", "callbacks.early_stopping=null", "split.num_validation=4"],
        r"callbacks\.early_stopping",
    ),
}


@pytest.mark.parametrize("habit", REFUSED)
def test_it_says_why_not(habit: str, common: list[str]) -> None:
    overrides, message = REFUSED[habit]
    with pytest.raises(SoftcueError, match=message):
        train_one(train_config(*common, "trainer.enable_progress_bar=false", *overrides))


def test_without_a_bar_of_ours_lightning_adds_none(common: list[str]) -> None:
    for off in ("callbacks.progress_bar=null", "trainer.enable_progress_bar=false"):
        trainer = build_trainer(train_config(*common, off, "paths.run=x"), joint=False)
        assert trainer.progress_bar_callback is None
