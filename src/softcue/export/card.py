"""The model card of an exported prompt: every number in it is the record's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softcue.data.template import Column, Soft, Template, Words, compose
from softcue.runs.record import RunRecord

MISSING = "–"


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """What the export knows beyond the record: its folder's name and the adapter in it."""

    folder: str
    base_model: str
    peft_type: str
    template: Template
    """The first task's template inside the prompt's layout."""
    tasks: tuple[str, ...]
    """The tasks that the adapter has a prompt for, by their names in the run's data; one in most runs."""


def model_card(record: RunRecord, shipped: Shipped) -> str:
    """The card in Markdown, with the front matter that the hub reads."""
    paragraphs = [
        _front_matter(record, shipped),
        f"# {record.method} for {', '.join(shipped.tasks)}",
        _summary(record, shipped),
        *(
            paragraph
            for number, name in enumerate(shipped.tasks)
            for paragraph in _task(record, shipped, name, number)
        ),
        "## What it scored",
        _scores(record),
        "## Where it comes from",
        _provenance(record),
        "## How to load it",
        *_loading(record, shipped),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _front_matter(record: RunRecord, shipped: Shipped) -> str:
    repo = record.settings["backbone"].get("repo")
    lines = ["library_name: peft", *([f"base_model: {repo}"] if repo else []), "tags:", "- softcue"]
    return "\n".join(["---", *lines, f"- {shipped.peft_type.lower().replace('_', '-')}", "---"])


def _summary(record: RunRecord, shipped: Shipped) -> str:
    size = f" ({record.parameters.shipped:,} numbers)" if record.parameters else ""
    return (
        f"A soft prompt of {shipped.template.num_virtual_tokens} virtual tokens{size} for the frozen model "
        f"`{shipped.base_model}`, as a PEFT adapter of type {shipped.peft_type}. Trained with softcue "
        f"{record.versions['softcue']}."
    )


def data_of(record: RunRecord, task: str) -> dict[str, Any]:
    """The settings of one task's data, in a run over one task or several."""
    data: dict[str, Any] = record.settings["data"]
    of_task: dict[str, Any] = data["tasks"][task] if "tasks" in data else data
    return of_task


def _task(record: RunRecord, shipped: Shipped, name: str, number: int) -> list[str]:
    data = data_of(record, name)
    task = data["task"]
    template = compose(record.settings["prompt"]["layout"], task["template"])
    several = len(shipped.tasks) > 1
    end = ", then the end token" if task["end_token"] else ""
    per_token = record.settings["scoring"]["per_token"]
    limit = data["max_length"]
    return [
        f"## Task {number}: {name}" if several else "## The task",
        "A row, as the model reads it; a column of the data stands in braces:",
        f"```text\n{_shown(template)}\n```",
        f"After it come a space and the words of a class{end}. The class whose words are likeliest is the "
        f"prediction, by the {'mean' if per_token else 'sum'} of its tokens' log-probabilities.",
        _table(("class", "words"), [(name, task["verbalizer"][name]) for name in task["classes"]]),
        *(
            [f"Texts were cut so that a row and its label take {limit} tokens at most, virtual ones aside."]
            if limit is not None
            else []
        ),
    ]


def _scores(record: RunRecord) -> str:
    """Each part's metrics; those of single classes are left to record.json."""
    names = list(dict.fromkeys(name for part in record.metrics.values() for name in part if "/" not in name))
    lines = [
        (
            part,
            f"{record.num_rows[part]:,}" if part in record.num_rows else MISSING,
            *(_number(metrics.get(name)) for name in names),
        )
        for part, metrics in record.metrics.items()
    ]
    return _table(("part", "rows", *(name.replace("_", " ") for name in names)), lines)


def _provenance(record: RunRecord) -> str:
    backbone, git, training = record.settings["backbone"], record.git, record.training
    revision = f", revision {backbone['revision']}" if "revision" in backbone else ""
    changed = " with uncommitted changes" if git and git.dirty else ""
    facts = {
        "run": f"{record.run_id}, finished {record.finished_at}",
        "frozen model": f"{record.backbone}{revision}, {record.dtype}",
        "seed": str(record.seed),
        "training": f"{training.steps} steps, epochs: {training.epochs}" if training else "none",
        "rows": f"fingerprint {record.data_fingerprint}",
        "commit": f"{git.commit}{changed}" if git else MISSING,
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    }
    return _table(("what", "which"), list(facts.items()))


def _loading(record: RunRecord, shipped: Shipped) -> list[str]:
    columns = dict.fromkeys(shipped.template.columns, "...")
    texts = f"texts = {json.dumps(columns, ensure_ascii=False)}"
    which = f", task={_quoted(shipped.tasks[0])}" if "tasks" in record.settings["data"] else ""
    with_softcue = f"import softcue\n\nprompt = softcue.load({_quoted(shipped.folder)}{which})\n{texts}"
    return [
        "With PEFT:",
        f"```python\n{_peft_code(record, shipped, texts)}\n```",
        "Give PEFT one row at a time, or rows of one length: it drops position ids, so on models with rotary "
        "positions padding changes what it predicts.",
        "With softcue, which cuts long texts and loads the frozen model as the run did:",
        f"```python\n{with_softcue}\nprint(prompt.predict([texts]))\n```",
    ]


def _peft_code(record: RunRecord, shipped: Shipped, texts: str) -> str:
    backbone, task = record.settings["backbone"], data_of(record, shipped.tasks[0])["task"]
    whose = ", task_ids=torch.tensor([0])" if len(shipped.tasks) > 1 else ""
    revision = f", revision={_quoted(backbone['revision'])}" if "revision" in backbone else ""
    where = "" if "repo" in backbone else "  # put the folder with its weights here"
    end = "{tokenizer.eos_token}" if task["end_token"] else ""
    together = "mean" if record.settings["scoring"]["per_token"] else "sum"
    return f"""import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {_quoted(shipped.base_model)}{where}
tokenizer = AutoTokenizer.from_pretrained(base{revision})
model = AutoModelForCausalLM.from_pretrained(base{revision}, dtype=torch.{record.dtype})
model = PeftModel.from_pretrained(model, {_quoted(shipped.folder)}).eval()


@torch.no_grad()
def log_likelihood(row, words):
    start = len(tokenizer(row)["input_ids"])
    ids = tokenizer(f"{{row}} {{words}}{end}", return_tensors="pt")["input_ids"]
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids){whose}).logits[0, -ids.shape[1] :]
    log_probs = logits.float().log_softmax(-1)[start - 1 : -1]
    return float(log_probs.gather(1, ids[0, start:, None]).{together}())


{texts}
row = {_as_code(shipped.template)}
words = {json.dumps(task["verbalizer"], ensure_ascii=False)}
print(max(words, key=lambda name: log_likelihood(row, words[name])))"""


def _shown(template: Template) -> str:
    """`[20 virtual tokens]Tweet text : {Tweet text} Label :`."""
    words = [
        f"[{part.num_tokens} virtual tokens]"
        if isinstance(part, Soft)
        else (part.text if isinstance(part, Words) else f"{{{part.name}}}")
        for part in template.segments
    ]
    return "".join(words)


def _as_code(template: Template) -> str:
    """The row's words as a Python expression over `texts`."""
    terms = [
        f"texts[{_quoted(part.name)}]" if isinstance(part, Column) else _quoted(part.text)
        for part in template.segments
        if not isinstance(part, Soft)
    ]
    return " + ".join(terms)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)
