"""softcue-chain: stages of training in turn, where a stage reads the results of earlier ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, ListConfig

from softcue.cli import hydra_app
from softcue.configs.compose import Composer
from softcue.errors import ConfigError
from softcue.sweep.grid import combinations

log = logging.getLogger(__name__)


@hydra_app("chain")
def main(config: DictConfig) -> None:
    """The Hydra app."""
    given = config.stages
    if not isinstance(given, DictConfig) or not all(isinstance(of, ListConfig) for of in given.values()):
        raise ConfigError(
            f"stages is {given}; give a list of overrides for each, as in "
            "stages={first: [experiment=quickstart]}."
        )
    stages = {str(name): list(overrides) for name, overrides in given.items()}
    run_chain(stages, common=list(config.common))


def run_chain(stages: Mapping[str, Sequence[str]], *, common: Sequence[str]) -> dict[str, list[Path]]:
    """Train the jobs of all stages in turn; return the folders of each stage.

    Raises what `train` raises, at the first job that fails: later stages would lack its result.
    """
    from softcue.execute import train

    composer = Composer(GlobalHydra.instance().config_loader())
    folders: dict[str, list[Path]] = {}
    for name, overrides in stages.items():
        jobs = combinations({}, [*filled(overrides, folders), *common])
        folders[name] = []
        for number, job in enumerate(jobs, start=1):
            log.info("stage %s, job %d of %d: %s", name, number, len(jobs), " ".join(job))
            folders[name] += [folder.path for folder in train(composer.compose(job))]
    return folders


def filled(overrides: Sequence[str], folders: Mapping[str, Sequence[Path]]) -> list[str]:
    """Overrides with the folders of earlier stages, joined by commas, in place of {stage name}."""
    texts = list(overrides)
    for name, paths in folders.items():
        joined = ",".join(str(path) for path in paths)
        texts = [text.replace(f"{{{name}}}", joined) for text in texts]
    return texts
