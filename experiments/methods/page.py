"""One row a method, for docs/methods.md: what is trained and where, its numbers, step, score and paper.

`python -m experiments.methods.page` writes methods.md: what is trained and the papers from the methods' own
files, numbers and steps from steps.json, scores from the records in runs/ and ppt_runs/
and, at equal budgets, tuned_runs/.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_class

from experiments.matrix import NOT_RUN, Groups
from experiments.methods.claims import ANY, AT_DEFAULTS, label
from softcue.configs import CONFIG_PATH
from softcue.configs.groups import claim
from softcue.data import next_sentence
from softcue.report.model import CellScore, Run
from softcue.runs.atomic import write_atomic
from tests.composing import choose, options

HERE = Path(__file__).parent
NOT_MEASURED = ("ensemble", "hard_prompt", "multitask", "multitask_target", "saved")
"""Methods that train nothing, or need several tasks."""
USUAL_SEEDS = 5
PAPER = re.compile(r"arXiv (\d{4}\.\d{5})")


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method's own file states."""

    choice: str
    trained: str
    papers: tuple[str, ...]
    measured_as: str
    """The option of `prompt` whose numbers and step are its own."""

    @property
    def recorded_as(self) -> str:
        """Its name in the tables of claims."""
        return self.choice.partition("=")[2]


def main() -> None:
    """Write the file."""
    write_atomic(HERE / "methods.md", page())


def page() -> str:
    """The table, the best score first and methods without one last, and how it was measured."""
    measured = json.loads((HERE / "steps.json").read_text())
    steps = {step["method"]: step for step in measured["steps"]}
    usual, tuned = (
        Groups.read([HERE / folder for folder in folders], label) for folders in (AT_DEFAULTS, ["tuned_runs"])
    )
    lines = [
        "| | what is trained | stands | trained | shipped | step | macro-F1 | at equal budgets | paper |",
        "|---|---|---|---:|---:|---:|---|---|---|",
    ]
    known = {
        method.choice: [of.score((method.recorded_as, ANY)) for of in (usual, tuned)] for method in methods()
    }
    for method in sorted(methods(), key=lambda one: -best(known[one.choice])):
        step, papers = steps.get(method.measured_as), ", ".join(map(link, method.papers)) or "–"
        at_defaults, at_equal_budgets = (score(found, method) for found in known[method.choice])
        at_defaults += departures(usual.runs.get((method.recorded_as, ANY), ()), method)
        scores = (at_defaults, at_equal_budgets)
        cells = (f"`{method.choice}`", method.trained, *measured_cells(step), *scores, papers)
        lines.append(f"| {' | '.join(cells)} |")
    where = f"{measured['where']} in processor time, beside other work"
    about = (
        "Numbers and steps: SmolLM2-135M, each method's defaults. A step: 8 embedded tweets, as a multiple "
        f"of prompt tuning's ({measured['prompt_tuning_s']:.1f} s; {where}); of `black_box`, a generation of "
        "20 candidates. Macro-F1: 50 labelled tweets, five seeds, 400 test rows, at the methods' defaults "
        "where nothing else is said; at equal budgets: the best of four trials on folds, five seeds on each "
        "of two draws of labels; the mean and its 95 % interval for new runs on new rows. –: needs several "
        "tasks or earlier runs, or trains nothing."
    )
    return "\n".join([*lines, "", about]) + "\n"


def methods() -> list[Method]:
    """Every option of `prompt`, and the chain that is a method."""
    found = [method(name) for name in options("prompt")]
    what, papers = claim(CONFIG_PATH / "chain" / "ppt.yaml"), papers_of(next_sentence)
    chain = Method(choice="chain=ppt", trained=what, papers=papers, measured_as="prompt_tuning")
    return [*found, chain]


def method(name: str) -> Method:
    """What the class that a YAML names says of itself."""
    kind = get_class(choose(f"prompt={name}").prompt.method._target_)
    first = (inspect.getdoc(kind) or "").split("\n\n")[0]
    papers = papers_of(sys.modules[kind.__module__])
    return Method(choice=f"prompt={name}", trained=" ".join(first.split()), papers=papers, measured_as=name)


def papers_of(module: object) -> tuple[str, ...]:
    """The papers that a module's head cites, by their numbers at arXiv."""
    return tuple(PAPER.findall(inspect.getdoc(module) or ""))


def link(paper: str) -> str:
    """A paper's number as a link."""
    return f"[{paper}](https://arxiv.org/abs/{paper})"


def measured_cells(step: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Where the virtual tokens stand, numbers trained and shipped, and the cost of a step."""
    if step is None:
        return ("–",) * 4
    return (step["place"], f"{step['trainable']:,}", f"{step['shipped']:,}", f"× {step['times']:.1f}")


def best(scores: Sequence[CellScore | None]) -> float:
    """The highest mean of a method; 0 if there is none."""
    return max(0.0 if one is None else one.mean for one in scores)


def score(found: CellScore | None, method: Method) -> str:
    """A mean and its interval, if a record exists."""
    if found is None:
        return "–" if method.measured_as in NOT_MEASURED else NOT_RUN
    assert found.interval is not None
    return f"{found.mean:.3f} \\[{found.interval.low:.3f}, {found.interval.high:.3f}]"


def departures(runs: Sequence[Run], method: Method) -> str:
    """In what a method's runs are not five at its default layout, as a cell's last words."""
    if not runs:
        return ""
    found = {run.record.settings["prompt"].get("layout") for run in runs if run.record is not None}
    layouts = found - {choose(f"prompt={method.measured_as}").prompt.get("layout")}
    words = [f"as `{layout}`" for layout in sorted(map(str, layouts))]
    if len(runs) != USUAL_SEEDS:
        words.append("one run" if len(runs) == 1 else f"{len(runs)} runs")
    return f" ({', '.join(words)})" if words else ""


if __name__ == "__main__":
    main()
