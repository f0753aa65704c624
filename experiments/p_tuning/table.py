"""P-tuning's own choices with a frozen model, from the records: `python -m experiments.p_tuning.table`."""

from __future__ import annotations

from pathlib import Path

from experiments.matrix import ABOUT, Groups, Label, Question, differences, matrix
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord

HERE = Path(__file__).parent
LAYOUTS = {
    "[soft:20]{input}": "in front",
    "[soft:10]{input}[soft:10]": "around",
    "{input}[soft:20]": "behind",
    "[soft:7]{input}[soft:13]": "7 and 13",
    "[soft:7]{input}[soft:7] complaint ?[soft:6]": "7, 7, anchor, 6",
}
ENCODERS = {"p_tuning": "MLP", "p_tuning_lstm": "LSTM", "prompt_tuning": "none"}


def label(record: RunRecord) -> Label:
    """The prompt encoder, and where its tokens stand."""
    return ENCODERS[record.method], LAYOUTS[record.settings["prompt"]["layout"]]


def table() -> str:
    """Encoders by layouts, then each choice by itself."""
    groups = Groups.read([HERE / "runs"], label)
    encoders = [
        Question(words=f"{encoder} ahead of none, {place}", first=(encoder, place), second=("none", place))
        for encoder in ("MLP", "LSTM")
        for place in ("in front", "around", "behind")
    ]
    anchors = [
        Question(
            words=f"an anchor ahead of none, encoder {encoder}",
            first=(encoder, "7, 7, anchor, 6"),
            second=(encoder, "7 and 13"),
        )
        for encoder in ENCODERS.values()
    ]
    places = [
        Question(
            words=f"{place} ahead of in front, encoder {encoder}",
            first=(encoder, place),
            second=(encoder, "in front"),
        )
        for encoder in ENCODERS.values()
        for place in ("around", "behind")
    ]
    scores = matrix(
        groups,
        corner="encoder / place",
        rows=list(ENCODERS.values()),
        columns=list(LAYOUTS.values()),
    )
    return "\n".join([scores, ABOUT, differences(groups, [*encoders, *anchors, *places])])


if __name__ == "__main__":
    write_atomic(HERE / "table.md", table())
