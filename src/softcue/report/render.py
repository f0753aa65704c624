"""The comparison for people (terminal, Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from softcue.report.table import Row, Statistic

HEADER = (
    "method",
    "trainable parameters",
    "accuracy",
    "macro-F1",
    "AUROC",
    "training time",
    "peak memory",
)
METRICS = HEADER[2:5]
NOTHING = "–"


def terminal_table(rows: Sequence[Row], *, title: str) -> Table:
    """A rich table: numbers to the right, each difference between rows of a method on its own line."""
    # Text, not str: rich would read a layout such as [soft:5] as its own markup.
    table = Table(title=Text(title), caption=_caption(rows), box=SIMPLE_HEAD, pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    table.collapse_padding = True
    table.add_column(HEADER[0], overflow="fold", min_width=max(len(row.method) for row in rows))
    repeated = any(row.runs > 1 for row in rows)
    for heading in HEADER[1:]:
        wraps = repeated and heading in METRICS
        width = len("0.812 ± 0.013") if wraps else None
        table.add_column("\n".join(heading.split()), justify="right", no_wrap=not wraps, min_width=width)
    for row in rows:
        name = "\n".join([row.method, *row.differences])
        table.add_row(*(Text(cell) for cell in (name, *cells(row)[1:])))
    return table


def terminal_text(rows: Sequence[Row], *, title: str, notes: Sequence[str], width: int) -> str:
    """The terminal's table as plain text, the notes beneath it; wider than asked before it cuts a number."""
    table = terminal_table(rows, title=title)
    console = Console(file=io.StringIO(), width=width)
    least = console.measure(table, options=console.options.update(max_width=1000)).minimum
    with console.capture() as captured:
        console.print(table, width=max(width, least), crop=False)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "".join(f"{line}\n" for line in (*lines, *notes))


def markdown(rows: Sequence[Row], *, title: str, notes: Sequence[str]) -> str:
    """A Markdown table under its title, the notes as a list beneath it."""
    lines = [HEADER, ("---", *["---:"] * (len(HEADER) - 1)), *(cells(row) for row in rows)]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    caption = _caption(rows)
    paragraphs = [
        f"**{title}**",
        body,
        *([caption] if caption else []),
        "\n".join(f"- {note}" for note in notes),
    ]
    return "\n\n".join(paragraphs).rstrip() + "\n"


def csv_text(rows: Sequence[Row]) -> str:
    """One line a row, numbers unrounded: each statistic as `name`, `name_std` and `name_n`."""
    lines = [_flat(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def cells(row: Row) -> tuple[str, ...]:
    """A row in the words of `HEADER`."""
    return (
        row.label,
        NOTHING if row.trainable is None else f"{row.trainable:,}",
        spread(row.accuracy),
        spread(row.macro_f1),
        spread(row.auroc),
        _mean(row.train_s, duration),
        _mean(row.peak_memory_mb, memory),
    )


def spread(statistic: Statistic | None) -> str:
    """`0.812`, or over several seeds `0.812 ± 0.013 (n=5)`."""
    if statistic is None:
        return NOTHING
    if statistic.std is None:
        return f"{statistic.mean:.3f}"
    return f"{statistic.mean:.3f} ± {statistic.std:.3f} (n={statistic.n})"


def duration(seconds: float) -> str:
    """`4.2 s`, `1 min 32 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(megabytes: float) -> str:
    """`812 MB`, `1.9 GB`."""
    return f"{megabytes:.0f} MB" if megabytes < 999.5 else f"{megabytes / 1000:.1f} GB"


def _mean(statistic: Statistic | None, words: Callable[[float], str]) -> str:
    return NOTHING if statistic is None else words(statistic.mean)


def _caption(rows: Sequence[Row]) -> str | None:
    if all(row.runs == 1 for row in rows):
        return None
    return "Over seeds: mean ± sample standard deviation; times and memory are means."


def _flat(row: Row) -> dict[str, object]:
    """The row's fields, each statistic spread over three columns."""
    flat: dict[str, object] = {"method": row.label, "runs": row.runs, "trainable": row.trainable}
    for name, value in asdict(row).items():
        if name not in flat and name != "differences":
            known = value or {"mean": None, "std": None, "n": 0}
            flat |= {name: known["mean"], f"{name}_std": known["std"], f"{name}_n": known["n"]}
    return flat
