"""Configs composed as the entry points compose them."""

from __future__ import annotations

from functools import cache

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from softcue.configs import CONFIG_PATH
from softcue.configs.compose import Composer


def train_config(*overrides: str) -> DictConfig:
    """What `hydra.compose` gives for `softcue-train OVERRIDES`, at a tenth of its time from the second on."""
    searched = [text for text in overrides if text.startswith("hydra.searchpath=")]
    return composer(*searched).compose_unchecked(overrides)


@cache
def composer(*hydra_overrides: str) -> Composer:
    """One for all tests, which mostly choose the same groups."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        return Composer(GlobalHydra.instance().config_loader(), hydra_overrides=hydra_overrides)


def options(group: str) -> list[str]:
    """The YAML files of a group, as they are chosen on the command line."""
    return sorted(path.stem for path in (CONFIG_PATH / group).glob("[!_]*.yaml"))


# Settings without a default, with a value for each, and the method of tuned ones.
GIVEN = {
    **{f"tuned={name}": [f"prompt={name.removeprefix('airline_complaints_')}"] for name in options("tuned")},
    "backbone=hub": ["backbone.repo=org/model"],
    "backbone=local": ["backbone.path=model"],
    "experiment=released_sst2": ["prompt.path=one"],
    "objective=distillation": ["objective.teachers=[runs/a]"],
    "objective=self_training": ["objective.teachers=[runs/a]", "data.train_unlabelled=5"],
    "prompt=attempt": ["prompt.sources=[runs/a,runs/b]"],
    "prompt=saved": ["prompt.path=one"],
    "prompt/initialiser=recycled": ["prompt.initialiser.path=one"],
    "prompt/initialiser=saved": ["prompt.initialiser.path=one"],
    "prompt/initialiser=nearest": [
        "prompt.initialiser.query=one",
        "prompt.initialiser.library=[runs/a,runs/b]",
    ],
    "prompt=ensemble": ["prompt.runs=[runs/a,runs/b]"],
    "prompt=multitask_target": ["prompt.source=runs/a"],
    "prompt=xprompt": ["prompt.source=runs/a"],
    "data=hub": [
        "data.repo=org/name",
        "data.task.name=mine",
        "data.task.template='{text} :'",
        "data.task.classes=[a,b]",
        "data.task.verbalizer={a: a, b: b}",
    ],
    "data=hub_text": [
        "data.repo=org/name",
        "data.task.name=mine",
        "data.task.template='{text} :'",
        "data.task.target.column=summary",
    ],
    "data=text_table": [
        "data.task.name=mine",
        "data.task.template='{text} :'",
        "data.task.target.column=summary",
        "data.source.path=table.csv",
    ],
    "data=table": [
        "data.task.name=mine",
        "data.task.template='{text} :'",
        "data.task.classes=[a,b]",
        "data.task.verbalizer={a: a, b: b}",
        "data.source.path=table.csv",
    ],
}
GROUPS = sorted(
    str(folder.relative_to(CONFIG_PATH))
    for folder in CONFIG_PATH.rglob("*")
    if folder.is_dir() and options(str(folder.relative_to(CONFIG_PATH)))
)
CHOICES = [
    f"{group}={option}"
    for group in GROUPS
    if group not in ("hydra", "prompt/baseline", "chain", "report", "decoding")
    for option in options(group)
]
CHOICES += [f"+decoding@data.decoding={option}" for option in options("decoding")]
CHOICES += [f"prompt=baseline/{option}" for option in options("prompt/baseline")]


def choose(choice: str) -> DictConfig:
    """The config of one option, with values for the settings that have no default."""
    return train_config(choice, *GIVEN.get(choice, []))
