"""softcue-chain: trainings one after another, where a later stage reads what an earlier one left."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.train import train

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="chain")
@run_app
def main(settings: DictConfig) -> None:
    """The Hydra app."""
    stages = {str(name): list(overrides) for name, overrides in settings.stages.items()}
    run_chain(stages, common=list(settings.common))


def run_chain(stages: Mapping[str, Sequence[str]], *, common: Sequence[str]) -> dict[str, list[Path]]:
    """Train every stage's jobs in turn; the folders each stage left.

    Raises what `train` raises, at the first job that cannot run: later stages would lack it.
    """
    folders: dict[str, list[Path]] = {}
    for name, overrides in stages.items():
        jobs = jobs_of(filled(overrides, folders), common)
        folders[name] = []
        for number, job in enumerate(jobs, start=1):
            log.info("stage %s, job %d of %d: %s", name, number, len(jobs), " ".join(job))
            folders[name].append(train(hydra.compose(config_name="train", overrides=job)).path)
    return folders


def filled(overrides: Sequence[str], folders: Mapping[str, Sequence[Path]]) -> list[str]:
    """Overrides with earlier stages' folders in place of {their name}, joined by commas."""
    texts = list(overrides)
    for name, paths in folders.items():
        joined = ",".join(str(path) for path in paths)
        texts = [text.replace(f"{{{name}}}", joined) for text in texts]
    return texts


def jobs_of(overrides: Sequence[str], common: Sequence[str]) -> list[list[str]]:
    """One list of overrides for each job that commas ask for."""
    parsed = OverridesParser.create().parse_overrides([*overrides, *common])
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [list(job) for job in jobs]
