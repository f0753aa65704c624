"""A comparison as one HTML file that needs nothing else: no network, no other file, no server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softcue.report.model import Caution, Claim, Comparison, TaskComparison
from softcue.report.page.examples import example_data
from softcue.report.page.grids import Grid, cells_grid, machines_grid, pairs_grid, runs_grid, trials_grid
from softcue.report.plots.registry import FOREST, PLOTS, RANKS, Plot, Section
from softcue.report.plots.style import COLUMN, PAGE, QUARTER, NotDrawn, as_inline_svg, styled

HERE = Path(__file__).parent
MOST_CLAIMS = 6
"""As many as stand beside the forest plot on a screen."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot on the page: the SVG, or why there is none. `wide` is a second one, for wide windows."""

    title: str
    caption: str
    section: Section
    svg: str | None
    wide: str | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Sentences for the first screen, and those that are one press away."""

    shown: Sequence[Claim]
    more: Sequence[Claim]


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """One task's part of the page; `facts` says in a line what was compared."""

    name: str
    facts: str
    forest: Picture
    pictures: Sequence[Picture]
    claims: Claims
    cells: Grid
    pairs: Grid
    all_pairs: bool
    trials: Grid
    examples: Mapping[str, Any] | None

    def drawn(self, *sections: Section) -> list[Picture]:
        """The pictures of these sections that there are."""
        return [picture for picture in self.pictures if picture.section in sections and picture.svg]

    @property
    def missing(self) -> list[Picture]:
        """The pictures that there are not, with their reasons."""
        return [picture for picture in (self.forest, *self.pictures) if picture.svg is None]


def page(comparison: Comparison) -> str:
    """The whole page. The same comparison gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = (HERE / "page.js").read_text(), (HERE / "page.css").read_text()
    with styled():
        tasks = [_task_view(comparison, task, number) for number, task in enumerate(comparison.tasks)]
        ranks = _ranks(comparison)
    runs = [run for task in comparison.tasks for cell in task.cells for run in cell.runs]
    return environment.get_template("page.html.jinja").render(
        comparison=comparison,
        claims=first_claims(comparison.claims),
        heading=_heading(comparison),
        tasks=tasks,
        ranks=ranks,
        machines=machines_grid(runs),
        runs=runs_grid(comparison, runs),
        warnings=warnings(comparison),
        data=script_json([task.examples for task in tasks]),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style,
    )


def first_claims(claims: Sequence[Claim], method_of: Mapping[str, str] | None = None) -> Claims:
    """All claims if they are few; otherwise the first of who is ahead and the first that settle nothing.

    `method_of` has the method of each cell by its key: a method's settings among each other come last.
    """
    if len(claims) <= MOST_CLAIMS:
        return Claims(shown=claims, more=())
    seen: dict[tuple[str, ...], int] = {}

    def repeats(claim: Claim) -> tuple[bool, int]:
        methods = tuple((method_of or {}).get(key, key) for key in claim.cells)
        seen[methods] = seen.get(methods, -1) + 1
        return len(set(methods)) < len(methods), seen[methods]

    ahead = sorted((claim for claim in claims if claim.kind == "ahead"), key=repeats)
    others = [claim for claim in claims if claim.kind != "ahead"]
    shown = [*ahead[: MOST_CLAIMS - min(2, len(others))], *others[:2]]
    return Claims(shown=shown, more=[claim for claim in claims if claim not in shown])


def script_json(value: object) -> str:
    """JSON that may stand in a script element: nothing in it can end the element."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def warnings(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Every caution by its kind, and last the records that were left out."""
    found: dict[str, list[str]] = {}
    for task, cautions in (
        ("", comparison.cautions),
        *((task.task, task.cautions) for task in comparison.tasks),
    ):
        for caution in cautions:
            found.setdefault(caution.kind, []).append(_caution(caution, task, len(comparison.tasks)))
    if comparison.notes:
        found["left out"] = list(comparison.notes)
    return list(found.items())


def _caution(caution: Caution, task: str, tasks: int) -> str:
    return f"{task}: {caution.text}" if task and tasks > 1 else caution.text


def _heading(comparison: Comparison) -> str:
    methods = {cell.method for task in comparison.tasks for cell in task.cells}
    tasks = [task.task for task in comparison.tasks]
    on = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
    return f"{len(methods)} {'method' if len(methods) == 1 else 'methods'} on {on}"


def _facts(comparison: Comparison, task: TaskComparison) -> str:
    runs = sum(len(cell.runs) for cell in task.cells)
    methods = len({cell.method for cell in task.cells})
    rows = max((cell.rows for cell in task.cells if cell.rows is not None), default=None)
    facts = [
        *task.backbones,
        f"{methods} {'method' if methods == 1 else 'methods'}",
        f"{len(task.cells)} settings" if len(task.cells) > methods else "",
        f"{runs:,} {'run' if runs == 1 else 'runs'}",
        f"{rows:,} {comparison.part} rows" if rows else "",
    ]
    return " · ".join(filter(None, facts))


def _task_view(comparison: Comparison, task: TaskComparison, number: int) -> TaskView:
    pictures = [
        _picture(plot, comparison, task, prefix=f"t{number}-{plot.name}", wide=plot is FOREST)
        for plot in PLOTS
    ]
    return TaskView(
        name=task.task,
        facts=_facts(comparison, task),
        forest=pictures[0],
        pictures=pictures[1:],
        claims=first_claims(task.claims, {cell.key: cell.method for cell in task.cells}),
        cells=cells_grid(comparison, task),
        pairs=pairs_grid(comparison, task),
        all_pairs=task.all_pairs,
        trials=trials_grid(comparison, task),
        examples=example_data(task),
    )


def _ranks(comparison: Comparison) -> Picture | None:
    if len(comparison.tasks) < 2:
        return None
    return _picture(RANKS, comparison, comparison.tasks[0], prefix="ranks", wide=True)


def _picture(plot: Plot, comparison: Comparison, task: TaskComparison, *, prefix: str, wide: bool) -> Picture:
    def draw(width: float, name: str) -> str:
        figure = plot.draw(comparison, task, width)
        return as_inline_svg(figure, prefix=name, label=f"{plot.title}: {task.task}")

    try:
        return Picture(
            title=plot.title,
            caption=" ".join(filter(None, (plot.note(comparison, task), plot.caption))),
            section=plot.section,
            svg=draw(QUARTER if plot.section == "costs" else COLUMN, prefix),
            wide=draw(PAGE, f"{prefix}-wide") if wide else None,
        )
    except NotDrawn as missing:
        reason = str(missing)
    return Picture(title=plot.title, caption=plot.caption, section=plot.section, svg=None, reason=reason)
