"""softcue-train: one run, from a config to a record. Also `python -m softcue.train`."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any, cast

import hydra
import joblib
import torch
from lightning import seed_everything
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from softcue.backbone.load import resolve_dtype
from softcue.build import build_data, build_learner, build_prompted_backbone
from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.data.datamodule import PARTS, Part, PromptData
from softcue.errors import ConfigError
from softcue.runs.identity import run_id
from softcue.runs.store import RunFolder
from softcue.session import Session
from softcue.show import show

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="train")
@run_app
def main(settings: DictConfig) -> None:
    """The Hydra app."""
    train(settings)


def train(settings: DictConfig) -> RunFolder:
    """Train a prompt, score it, leave a record; a complete run is not run again."""
    expect_given(settings)
    settings.backbone.dtype = str(resolve_dtype(settings.backbone.dtype)).removeprefix("torch.")
    data = build_data(settings)
    data.load()
    folder = run_folder(settings, data)
    if settings.show:
        show(*build_prompted_backbone(settings, data), data)
        return folder
    if folder.is_complete:
        log.info("%s is complete: nothing to do", folder.path)
        return folder
    if settings.dry:
        counts = ", ".join(f"{len(data.ids(part))} {part} rows" for part in PARTS)
        log.info("%s would run: %s", folder.path, counts)
        return folder
    settings.paths.run = str(folder.path)
    _quiet()
    use_threads(settings.threads)
    seed_everything(settings.seed, workers=True, verbose=False)
    if vars(rank_zero_only)["rank"] > 0:
        # A further process of a distributed run trains its share; the first one records and scores.
        build_learner(settings, data).fit()
        return folder
    with Session(folder, settings, data) as session:
        learner = build_learner(settings, data)
        session.set_up(learner)
        session.train(learner)
        for part in parts_to_score(settings, data):
            session.score(learner, part)
        learner.ship(folder)
    return folder


def use_threads(count: int | None) -> None:
    """Give torch this many threads; None: the physical cores that affinity and cgroup quota leave us."""
    if count is None and "OMP_NUM_THREADS" in os.environ:
        return
    # torch counts the machine's cores, and in a container with a share of them starts too many threads.
    torch.set_num_threads(count or joblib.cpu_count(only_physical_cores=True))


def expect_given(settings: DictConfig) -> None:
    """Name every setting that has no default and was not given, before anything is loaded."""
    missing = sorted(OmegaConf.missing_keys(settings))
    if missing:
        raise ConfigError(f"{missing[0]} has no default; give it as {missing[0]}=... (missing: {missing}).")


def run_folder(settings: DictConfig, data: PromptData) -> RunFolder:
    """Where this run belongs, named by what determines its result."""
    name = run_id(
        method=settings.prompt.name,
        settings=cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True)),
        data_fingerprint=data.fingerprint,
    )
    return RunFolder(Path(settings.paths.runs), name)


def parts_to_score(settings: DictConfig, data: PromptData) -> list[Part]:
    """The parts that have rows, the unlabelled one only if asked for."""
    wanted = [part for part in PARTS if part != "unlabelled" or settings.predict_unlabelled]
    return [part for part in wanted if data.ids(part)]


def _quiet() -> None:
    """Leave out what libraries warn of and we mean."""
    for message in (
        # Rows are ids already: a worker process would cost more than it loads.
        ".*does not have many workers.*",
        # The run's folder holds its log and record before training starts.
        ".*exists and is not empty.*",
        # No validation rows is a choice; the few-shot default.
        "Total length of `list` across ranks is zero.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
    ):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    main()
