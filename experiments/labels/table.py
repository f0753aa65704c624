"""Score against the number of labels: `python -m experiments.labels.table` writes table.md from records."""

from __future__ import annotations

from pathlib import Path

from experiments.matrix import ABOUT, Groups, Label, Question, differences, matrix, recorded
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord

HERE = Path(__file__).parent
TABLE = HERE / "table.md"
SIZES = ("8", "16", "50", "100", "200", "500")
TITLES = {
    "prompt_tuning": "prompt tuning",
    "p_tuning": "P-tuning",
    "prefix_tuning_projected": "prefix tuning, projected",
    "lora": "LoRA",
    "probe": "linear probe",
    "in_context": "in context, calibrated",
    "tfidf": "TF-IDF",
}


def label(record: RunRecord) -> Label | None:
    """The method, and the labels that it learned from."""
    title, size = TITLES.get(record.method), str(record.settings["split"]["num_train"])
    return None if title is None or size not in SIZES else (title, size)


def read() -> Groups:
    """All runs."""
    return Groups.read([HERE / "runs", *recorded("methods", "lora")], label)


def table(groups: Groups) -> str:
    """Scores, then prompt tuning against what needs no prompt."""
    rivals = [
        Question(
            words=f"prompt tuning ahead of {TITLES[rival]} with {size} labels",
            first=(TITLES["prompt_tuning"], size),
            second=(TITLES[rival], size),
        )
        for rival in ("lora", "probe", "tfidf")
        for size in SIZES
    ]
    scores = matrix(groups, corner="labels", rows=list(TITLES.values()), columns=SIZES)
    return "\n".join([scores, ABOUT, differences(groups, rivals)])


if __name__ == "__main__":
    write_atomic(TABLE, table(read()))
