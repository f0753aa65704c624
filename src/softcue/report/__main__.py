"""`softcue-report`: a comparison of runs from their records, printed or written to a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from softcue.cli import hydra_app
from softcue.errors import ConfigError
from softcue.runs.clean import remove_failed
from softcue.runs.metrics import metric_named
from softcue.tables.render import expect_format, write_tables

if TYPE_CHECKING:
    from softcue.report.command import Request

LISTS = ("runs", "theirs", "metrics", "compare", "show", "columns")
"""Settings whose values may be given as `a,b`; Hydra would take that for a sweep."""


def main() -> None:
    """Compare runs, as the command line says."""
    listed = re.compile(rf"({'|'.join(LISTS)})=([^\[\]{{}}'\"]*,[^\[\]{{}}'\"]*)")
    sys.argv[1:] = [listed.sub(r"\1=[\2]", one) if listed.fullmatch(one) else one for one in sys.argv[1:]]
    _report()


@hydra_app("report")
def _report(settings: DictConfig) -> None:
    expect_format(settings.format)
    request = read_request(settings)
    if settings.clean is not None:
        _clean(settings.clean, request)
    # scipy takes a second to import, which --help and mistakes do without.
    from softcue.report.command import make_comparison, tables_of, two_run_request

    if request.compare:
        request = two_run_request(request)
    drawn = settings.page is not None or settings.plots is not None
    comparison = make_comparison(request, details=drawn)
    tables, notes = tables_of(request, comparison, settings.format)
    if drawn:
        # matplotlib takes a second to import, which tables do without.
        from softcue.report.files import write_page, write_plots

        if settings.plots is not None:
            notes += write_plots(comparison, Path(settings.plots))
        if settings.page is not None:
            write_page(comparison, Path(settings.page))
    write_tables(tables, form=settings.format, output=settings.output, notes=notes)


def _clean(what: str, request: Request) -> None:
    if what != "failed":
        raise ConfigError(f"clean is {what!r}; failed is all that it can be.")
    for path in remove_failed(request.roots):
        print(f"removed: {path}", file=sys.stderr)


def read_request(settings: DictConfig) -> Request:
    """The settings as the request they stand for.

    Raises:
        ConfigError: a metric or piece that does not exist.
    """
    metrics = [metric_named(name) for name in _texts(settings.metrics)]
    sort_by = metric_named(settings.sort_by)
    from softcue.report.command import Request
    from softcue.report.compare import Shown

    columns = None if settings.columns is None else tuple(_texts(settings.columns))
    return Request(
        roots=[Path(path) for path in _texts(settings.runs)],
        theirs=[Path(path) for path in _texts(settings.theirs)],
        shown=Shown(part=settings.part, metrics=tuple(metrics), sort_by=sort_by, columns=columns),
        where={name: _texts(value) for name, value in _flat(settings.where)},
        repeated=_texts(settings.repeated),
        show=_texts(settings.show),
        paper=None if settings.paper is None else Path(settings.paper),
        compare=_texts(settings.compare),
        num_rows=settings.rows,
    )


def _texts(value: object) -> Sequence[str]:
    """A list of texts; one value is a list of it, and null one of nothing."""
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, ListConfig | list) else [str(value)]


def _flat(where: object) -> list[tuple[str, Any]]:
    """The filters by dotted path."""
    from softcue.runs.identity import leaves

    plain = {} if where is None else where
    if isinstance(where, DictConfig):
        plain = OmegaConf.to_container(where)
    if not isinstance(plain, dict):
        raise ConfigError(
            f"where is {plain!r}; give settings with their values, as in where={{method: p_tuning}}."
        )
    return list(leaves({str(name): value for name, value in plain.items()}))


if __name__ == "__main__":
    main()
