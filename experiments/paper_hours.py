"""How long the papers' own runs take on an H100, from their sizes: `python -m experiments.paper_hours`.

Writes paper.md beside every paper.yaml. A training step of a frozen model is taken as 4 N floating-point
operations a token (2 N forwards, 2 N for the gradients of activations; N parameters), at 40 % of the
989 TFLOP/s of a dense bfloat16 product. Evaluation is not counted, nor what softcue saves.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.tables import QUIET, Job, Table, fill, read
from softcue.configs.compose import Composer, config_loader
from softcue.runs.atomic import write_atomic

HERE = Path(__file__).parent
FLOPS_A_SECOND = 0.4 * 989e12
PARAMETERS = {
    "t5_small_lm_adapt": 77e6,
    "t5_base_lm_adapt": 248e6,
    "t5_large_lm_adapt": 783e6,
    "t5_xl_lm_adapt": 2.85e9,
    "t5_xxl_lm_adapt": 11.1e9,
    "t5_base": 223e6,
    "gpt2": 124e6,
    "gpt2_medium": 355e6,
    "gpt2_large": 774e6,
    "bloomz_560m": 559e6,
}
UNTRAINED = ("saved", "ensemble", "in_context", "probe", "tfidf")


def composed(table: Table, job: Job, composer: Composer) -> DictConfig:
    """The settings of a job; folders of earlier runs are named and not there."""
    nowhere = {part: ["runs/none"] * 99 for part in table.parts}
    overrides = (fill(text, nowhere) for text in job.overrides)
    return composer.compose((*QUIET, *table.common, *overrides))


def hours(config: DictConfig, cost: Mapping[str, Any]) -> float:
    """Of one pass, all its seeds together."""
    if config.prompt.name in UNTRAINED:
        return 0.0
    task = config.data.task.name if "task" in config.data else config.data.name
    per_row = cost["tokens"] if isinstance(cost["tokens"], int) else cost["tokens"][task]
    steps = config.trainer.max_steps
    if steps is None:
        rows = config.split.num_train if "num_train" in config.split else cost["rows"][task]
        steps = math.ceil(rows / config.data.batch_size) * config.trainer.max_epochs
    seeds = len(config.joint.seed) if config.joint.get("seed") else 1
    tokens = steps * config.data.batch_size * per_row * seeds
    return float(4 * PARAMETERS[config.backbone.name] * tokens / FLOPS_A_SECOND / 3600)


def text(name: str, composer: Composer) -> str:
    """A row for each part and model."""
    table = read(name, "paper.yaml")
    cost: Any = OmegaConf.to_container(OmegaConf.load(HERE / name / "paper.yaml").cost)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for job in table.jobs:
        config = composed(table, job, composer)
        found[job.part, config.backbone.name].append(hours(config, cost))
    lines = ["| part | model | passes | H100 hours |", "|---|---|---:|---:|"]
    for (part, model), each in found.items():
        lines.append(f"| {part} | {model} | {len(each)} | {_rounded(sum(each))} |")
    total = sum(map(sum, found.values()))
    lines.append(f"| all | | {sum(map(len, found.values()))} | {_rounded(total)} |")
    return "\n".join(lines) + "\n"


def _rounded(value: float) -> str:
    if value == 0:
        return "no training"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else "less than 0.1"


def main() -> None:
    composer = Composer(config_loader())
    for path in sorted(HERE.glob("*/paper.yaml")):
        write_atomic(path.with_suffix(".md"), text(path.parent.name, composer))


if __name__ == "__main__":
    main()
