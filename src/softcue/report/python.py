"""A comparison from Python: `softcue.compare`, and what a notebook shows of its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import OmegaConf

from softcue.configs.compose import config_loader
from softcue.errors import ConfigError, RunError
from softcue.report.__main__ import read_request
from softcue.report.command import Request, make_comparison, tables_of, two_run_request
from softcue.report.model import Comparison, TaskComparison
from softcue.report.tables import all_cells_table
from softcue.runs.atomic import write_atomic
from softcue.tables.html import html_blocks
from softcue.tables.render import plain_rows, terminal

_OF_FILES = ("format", "clean", "output", "page", "plots")
"""Settings of softcue-report that say where its output goes."""


@dataclass(frozen=True)
class Picture:
    """A plot as SVG, which a notebook draws."""

    svg: bytes = field(repr=False)

    def _repr_svg_(self) -> str:
        return self.svg.decode()

    def save(self, path: str | Path) -> None:
        """Write the SVG to a file."""
        write_atomic(Path(path), self.svg)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A comparison of runs; a notebook shows its tables, what they support, and what weakens them."""

    comparison: Comparison
    request: Request

    def __str__(self) -> str:
        tables, notes = tables_of(self.request, self.comparison, "terminal")
        return terminal(tables, notes, 120)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_blocks(*tables_of(self.request, self.comparison, "html"))

    @property
    def claims(self) -> list[str]:
        """What the numbers support, in sentences."""
        return [claim.text for claim in self.comparison.all_claims]

    @property
    def cautions(self) -> list[str]:
        """What weakens the comparison, and the records that were left out."""
        return [*(caution.text for caution in self.comparison.all_cautions), *self.comparison.notes]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each method with its settings, one value a cell, as for `pandas.DataFrame`."""
        return plain_rows(all_cells_table(self.comparison))

    def plot(self, name: str = "forest", *, task: str | None = None) -> Picture:
        """Draw one of the plots that softcue-report writes to `plots`; `task` chooses one of several.

        Raises:
            ConfigError: there is no such plot or task.
            RunError: the records do not hold what the plot needs.
        """
        # matplotlib takes a second to import, which tables do without.
        from softcue.report.plots.registry import PLOTS, RANKS
        from softcue.report.plots.style import COLUMN, PAGE, NotDrawn, as_file, styled

        plots = {plot.name: plot for plot in (*PLOTS, RANKS)}
        if name not in plots:
            raise ConfigError(f"there is no plot {name!r}; choose one of {', '.join(plots)}.")
        with styled():
            try:
                width = PAGE if name == "forest" else COLUMN
                figure = plots[name].draw(self.comparison, self._task(task), width)
            except NotDrawn as missing:
                raise RunError(f"{name} cannot be drawn: {missing}.") from missing
            return Picture(as_file(figure, form="svg"))

    def save_page(self, path: str | Path) -> None:
        """Write the page of the comparison, as `page=` of softcue-report does."""
        from softcue.report.files import write_page

        write_page(self.comparison, Path(path))

    def _task(self, name: str | None) -> TaskComparison:
        tasks = {task.task: task for task in self.comparison.tasks}
        if name is None:
            return self.comparison.tasks[0]
        if name not in tasks:
            raise ConfigError(f"there is no task {name!r}; there are {', '.join(tasks)}.")
        return tasks[name]


def compare(
    runs: str | Path | Sequence[str | Path] | None = "runs", *, report: str = "default", **settings: object
) -> Report:
    """Compare runs as softcue-report does, from their records alone and without torch.

    Args:
        runs: the folder that runs were written to, or several; None to compare other people's scores alone.
        report: an option for `report`, such as "pairs" or "trials".
        settings: softcue-report's own settings by name, such as `sort_by="accuracy"`,
            `where={"method": "p*"}`, `theirs="scores.csv"` or `compare=[one_run, another]`.

    Raises:
        ConfigError: a setting, metric or filter that does not exist.
        RunError: there is nothing to compare.
    """
    config = config_loader().load_configuration("report", [f"report={report}"], run_mode=RunMode.RUN)
    known = [str(name) for name in config if name not in ("hydra", *_OF_FILES)]
    for name, value in {"runs": runs, **settings}.items():
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}; choose from {', '.join(known)}.")
        OmegaConf.update(config, name, _plain(value), merge=False)
    request = read_request(config)
    if request.compare:
        request = two_run_request(request)
    return Report(comparison=make_comparison(request, details=True), request=request)


def _plain(value: object) -> object:
    """Paths as text, also in lists: a config holds neither."""
    if isinstance(value, Path):
        return str(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
