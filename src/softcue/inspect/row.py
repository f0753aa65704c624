"""debug=show: one real row, token by token, in colour; the first look at a new template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from softcue.backbone.base import Backbone
from softcue.backbone.stream import plan_rows, split_shared
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Batch, PromptBank, SoftPrompt
from softcue.data.encode import Kind
from softcue.data.run_data import RunData
from softcue.errors import printable

RowKind = Kind | Literal["pad", "label"]
Run = Literal["not run", "shared prefix", "static context", "tail", "own forward"]

COLOURS: dict[RowKind, str] = {
    "pad": "bright_black",
    "virtual": "bold magenta",
    "special": "blue",
    "template": "cyan",
    "text": "default",
    "label": "bold green",
}
RUNS: dict[Run, str] = {
    "shared prefix": "once a step for all rows of the batch",
    "static context": "once, then kept for the whole run",
    "tail": "every step, for this row alone",
    "own forward": "every step, as the model's own forward runs it, padding included",
    "not run": "never: padding, keys and values at hand, or a last token that is only predicted",
}


@dataclass(frozen=True, kw_only=True)
class Token:
    """One position of a row."""

    text: str
    id: int
    kind: RowKind
    run: Run


def tokens_of_first_row(lm: Backbone, bank: PromptBank, data: RunData) -> list[Token]:
    """The first row of the first training batch, its label behind it."""
    batch: Batch = next(iter(data.train_dataloader()))
    target = int(batch.target_B[0])
    label = batch.choices[0][max(target, 0)]
    num_pads = 0 if batch.padded is None else batch.padded.width - len(batch.rows[0])
    ids = [0] * num_pads + list(batch.rows[0])
    kinds: list[RowKind] = ["pad"] * num_pads
    kinds += data.kinds("train" if target >= 0 else "unlabelled", int(batch.row_B[0]))
    kinds += ["label"] * len(label)
    runs: list[Run] = ["own forward"] * (len(ids) + len(label) - 1)
    if isinstance(lm, StreamLM):
        runs = _runs(batch, bank)
        runs += ["tail"] * (len(label) - 1)
    runs.append("not run")
    return [
        Token(text="·" if kind == "pad" else _text(lm, token), id=token, kind=kind, run=run)
        for token, kind, run in zip([*ids, *label], kinds, runs, strict=True)
    ]


def _runs(batch: Batch, bank: PromptBank) -> list[Run]:
    rows = plan_rows(batch, bank, batch.choices)
    shared, tails = split_shared(rows, bank.prefix_lengths)
    first = tails[0]
    num_shared = 0 if first.shared is None else len(shared[first.shared].ids)
    runs: list[Run] = ["not run"] * bank.prefix_lengths[0]
    runs += ["static context"] * first.num_static
    runs += ["shared prefix"] * num_shared
    runs += ["tail"] * len(first.ids)
    return runs


def _text(lm: Backbone, token: int) -> str:
    return f"[v{-1 - token}]" if token < 0 else str(lm.tokenizer.decode([token]))


def render(tokens: list[Token], layout: str) -> Group:
    """The row in colour, what the colours mean, and a line for each token."""
    row = Text()
    for token in tokens:
        row.append("\n".join(map(printable, token.text.split("\n"))), style=_style(token))
        if token.kind in ("virtual", "pad"):
            row.append(" ")
    table = Table("place", "id", "token", "what it is", "how it runs", title=Text(f"layout {layout!r}"))
    for place, token in enumerate(tokens):
        table.add_row(
            str(place), str(token.id), Text(repr(token.text)), token.kind, token.run, style=_style(token)
        )
    return Group(row, Text(), table, _legend(tokens))


def _legend(tokens: list[Token]) -> Text:
    legend = Text()
    for kind, colour in COLOURS.items():
        if count := sum(token.kind == kind for token in tokens):
            legend.append(f"{count} {kind}  ", style=colour)
    for run, meaning in RUNS.items():
        if count := sum(token.run == run for token in tokens):
            legend.append(f"\n{count:4d} {run}: {meaning}")
    return legend


def _style(token: Token) -> str:
    return COLOURS[token.kind] + {"shared prefix": " underline", "static context": " italic"}.get(
        token.run, ""
    )


def show(lm: Backbone, prompt: SoftPrompt, data: RunData) -> None:
    """Print the first training row to the terminal."""
    Console().print(render(tokens_of_first_row(lm, prompt().detach(), data), data.layout))
