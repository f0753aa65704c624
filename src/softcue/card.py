"""The model card of an exported prompt: every number in it is the record's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softcue.data.template import Column, Soft, Template, Text
from softcue.runs.record import RunRecord

MISSING = "–"


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """What the export knows beyond the record: its folder's name and the adapter in it."""

    folder: str
    base_model: str
    peft_type: str
    template: Template
    """The task's template inside the prompt's layout."""


def model_card(record: RunRecord, shipped: Shipped) -> str:
    """The card in Markdown, with the front matter that the hub reads."""
    paragraphs = [
        _front_matter(record, shipped),
        f"# {record.method} for {record.task}",
        _summary(record, shipped),
        "## The task",
        *_task(record, shipped),
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


def _task(record: RunRecord, shipped: Shipped) -> list[str]:
    task, data = record.settings["data"]["task"], record.settings["data"]
    end = ", then the end token" if task["end_token"] else ""
    per_token = record.settings["scoring"]["per_token"]
    limit = data["max_length"]
    return [
        "A row, as the model reads it; a column of the data stands in braces:",
        f"```text\n{_shown(shipped.template)}\n```",
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
        (part, f"{record.num_rows[part]:,}", *(_number(metrics.get(name)) for name in names))
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
    with_softcue = f"import softcue\n\nprompt = softcue.load({_quoted(shipped.folder)})\n{texts}"
    return [
        "With PEFT:",
        f"```python\n{_peft_code(record, shipped, texts)}\n```",
        "Give PEFT one row at a time, or rows of one length: it drops position ids, so on models with rotary "
        "positions padding changes what it predicts.",
        "With softcue, which cuts long texts and loads the frozen model as the run did:",
        f"```python\n{with_softcue}\nprint(prompt.predict([texts]))\n```",
    ]


def _peft_code(record: RunRecord, shipped: Shipped, texts: str) -> str:
    backbone, task = record.settings["backbone"], record.settings["data"]["task"]
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
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -ids.shape[1] :]
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
        else (part.text if isinstance(part, Text) else f"{{{part.name}}}")
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
