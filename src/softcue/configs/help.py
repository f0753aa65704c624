"""The help of softcue-train: what users change, in one screen, and on request all of it."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any, cast

from omegaconf import OmegaConf

from softcue.configs import CONFIG_PATH
from softcue.configs.compose import Composer, config_loader
from softcue.configs.groups import GROUPS, claim, options

OWN = tuple(group for group in GROUPS if group not in ("chain", "report", "hydra/sweeper"))
"""The groups that softcue-train itself reads."""

SETTINGS = {
    "seed": "draws the prompt's start, the order of rows and which rows train",
    "prompt.layout": 'virtual tokens around the row, as in "[soft:20]{input}"',
    "prompt.learning_rate": "each method has its own default",
    "data.batch_size": "rows of a training batch",
    "data.max_length": "tokens of a row; longer texts are cut",
    "data.source.path": "of data=table: your own table",
    "split.fold": "of split=k_fold: the fold that tests",
    "split.num_train": "of split=few_shot: rows to train on",
    "trainer.max_epochs": "passes over the training rows",
    "backbone.dtype": "float32, bfloat16 or auto",
    "joint.seed": "several seeds in one pass, as joint.seed=[0,1,2]",
    "predict_train": "score the training rows too",
    "predict_unlabelled": "score the rows without labels too",
    "paths.runs": "the folder of all runs",
}
"""The settings that users change most, and what each is."""

HEADER = """softcue-train: train a soft prompt on a frozen language model, and score it on held-out rows.

Choose options as group=option, and change settings as name=value."""
FOOTER = """Examples
  softcue-train experiment=quickstart
  softcue-train experiment=quickstart prompt=p_tuning seed=1
  softcue-train data=table data.source.path=reviews.csv backbone=smollm2_135m
  softcue-train -m experiment=quickstart prompt=prompt_tuning,prefix_tuning seed=0,1,2

More
  softcue-train --help-all               every group's options, and every setting
  softcue-train ... dry=true             what would run, without running it
  softcue-train ... --cfg job            the settings of a run
  softcue-train --config-dir FOLDER ...  options of your own
  softcue-train --hydra-help             Hydra's own flags; --version: softcue's version"""


def short_help() -> str:
    """Groups with their defaults, the settings that users change, and examples."""
    chosen = _defaults()
    groups = [
        f"  {group:<18} {about}{_default(chosen.get(group))}"
        for group, about in GROUPS.items()
        if group in OWN
    ]
    settings = [f"  {name:<20} {about}" for name, about in SETTINGS.items()]
    return "\n".join([HEADER, "", "Groups", *groups, "", "Settings", *settings, "", FOOTER])


def full_help() -> str:
    """Every option of every group with its first sentence, and the composed settings."""
    lines = [HEADER]
    for group in OWN:
        lines += ["", f"{group}: {GROUPS[group]}"]
        for name, path in options(group).items():
            lines.append(fill(f"{name}: {claim(path)}", 100, initial_indent="  ", subsequent_indent="      "))
    config = Composer(config_loader()).compose_unchecked([])
    return "\n".join([*lines, "", "All settings, with the default options:", "", OmegaConf.to_yaml(config)])


def _default(option: str | None) -> str:
    return f" [{option}]" if option and option != "None" else ""


def _defaults() -> Mapping[str, str]:
    settings = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(CONFIG_PATH / "train.yaml")))
    entries = [entry for entry in settings["defaults"] if isinstance(entry, dict)]
    return {group: str(option) for entry in entries for group, option in entry.items()}
