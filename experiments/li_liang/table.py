"""Li & Liang 2021 on the embedded tweets, from the records: `python -m experiments.li_liang.table`."""

from __future__ import annotations

from pathlib import Path

from experiments.matrix import ABOUT, Groups, Label, Question, differences, matrix, published, recorded
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord

HERE = Path(__file__).parent
LENGTHS = ("1", "5", "10", "20", "40")
FRONT, BEHIND = "embeddings in front (EMB)", "embeddings behind the text (INFIX's place)"
PROJECTED, FLAT = "prefix of every layer, by an MLP", "prefix of every layer, flat"


PLACES = {
    "prompt_tuning": FRONT,
    "prompt_tuning_suffix": BEHIND,
    "prefix_tuning_projected": PROJECTED,
    "prefix_tuning": FLAT,
}


def label(record: RunRecord) -> Label | None:
    """What is trained and where, and how many virtual tokens there are; None for another method."""
    if record.method not in PLACES:
        return None
    return PLACES[record.method], record.settings["prompt"]["layout"].partition("[soft:")[2].partition("]")[0]


def table() -> str:
    """Places by lengths; then Table 4's order, and the length that Figure 4 finds best."""
    groups = Groups.read([HERE / "runs", *recorded("methods", "prompt_tuning", "prefix_tuning")], label)
    places = [
        Question(
            words=f"a prefix of {length} ahead of {length} {what}",
            first=(PROJECTED, length),
            second=(place, length),
        )
        for length in ("1", "10", "20")
        for what, place in (("embeddings in front", FRONT), ("embeddings behind the text", BEHIND))
    ]
    behind = [
        Question(
            words=f"{length} embeddings behind the text ahead of {length} in front",
            first=(BEHIND, length),
            second=(FRONT, length),
        )
        for length in ("1", "10", "20")
    ]
    lengths = [
        Question(
            words=f"a prefix of 10 ahead of one of {other}",
            first=(PROJECTED, "10"),
            second=(PROJECTED, other),
        )
        for other in LENGTHS
        if other != "10"
    ]
    flat = [
        Question(
            words=f"the MLP ahead of none, {length} tokens", first=(PROJECTED, length), second=(FLAT, length)
        )
        for length in ("10", "20")
    ]
    scores = matrix(groups, corner="place / tokens", rows=[FRONT, BEHIND, PROJECTED, FLAT], columns=LENGTHS)
    return "\n".join([scores, ABOUT, differences(groups, [*places, *behind, *lengths, *flat])])


if __name__ == "__main__":
    write_atomic(HERE / "table.md", table())
    write_atomic(HERE / "published.md", published(HERE / "paper.csv"))
