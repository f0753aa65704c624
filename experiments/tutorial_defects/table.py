"""What each defect of the published tutorial costs, from the records.

`python -m experiments.tutorial_defects.table` writes table.md.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from experiments.matrix import ABOUT, NOT_RUN, Groups, Label, Question, differences, score_text
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord
from softcue.runs.store import list_records

HERE = Path(__file__).parent
SOUND, CUT = "sound rows", "sound rows of 40 tokens, the tweet cut"
OVER, SPACE, TRUNCATED = "labels over the prompt", "a trailing space", "rows cut at the right at 40 tokens"
BOTH, REBUILT = "labels over the prompt and a trailing space", "no defect, by the same code"
DEFECTS = {
    ("labels_over_prompt",): OVER,
    ("trailing_space",): SPACE,
    ("right_truncation",): TRUNCATED,
    ("labels_over_prompt", "trailing_space"): BOTH,
    (): REBUILT,
}
ROWS = (SOUND, REBUILT, OVER, SPACE, BOTH, CUT, TRUNCATED)


def label(record: RunRecord) -> Label:
    """What is wrong with the rows."""
    defects = record.settings["backbone"].get("defects")
    if defects is not None:
        return DEFECTS[tuple(sorted(name for name, value in defects.items() if value))], ""
    return (CUT if record.settings["data"]["max_length"] == 40 else SOUND), ""


def table() -> str:
    """Scores and what a defect takes from them; then the two that no score shows."""
    groups = Groups.read([HERE / "runs"], label)
    aurocs = Groups.read([HERE / "runs"], label, metric="auroc")
    lines = ["| rows | macro-F1 | AUROC |", "|---|---:|---:|"]
    lines += [
        f"| {row} | {score_text(groups.score((row, '')))} | {score_text(aurocs.score((row, '')))} |"
        for row in ROWS
    ]
    asked = [
        Question(words=f"{sound} ahead of {row}", first=(sound, ""), second=(row, ""))
        for sound, row in ((SOUND, OVER), (SOUND, SPACE), (SOUND, BOTH), (SOUND, TRUNCATED), (CUT, TRUNCATED))
    ]
    return "\n".join(["\n".join(lines) + "\n", ABOUT, differences(groups, asked), unlabelled(), padding()])


def unlabelled() -> str:
    """Perplexity of the right label, and of the word that a test split without labels has in its place."""
    sound = [record for record in list_records(HERE / "runs").records if label(record)[0] == SOUND]
    cells = []
    for records in (sound, list_records(HERE / "unlabelled").records):
        found = [record.metrics["test"]["perplexity"] for record in records if record.metrics]
        known = [value for value in found if value is not None]
        cells.append(f"{fmean(known):,.1f} ({len(known)} prompts)" if known else NOT_RUN)
    lines = ["| evaluated on | perplexity of the label |", "|---|---:|"]
    lines += [f"| test rows | {cells[0]} |", f'| rows that all say "Unlabeled" | {cells[1]} |']
    return "\n".join(lines) + "\n"


def padding() -> str:
    """Training time of five prompts, on the engine that pads."""
    lines = ["| batches padded to | training of five prompts | macro-F1 |", "|---|---:|---:|"]
    for words, folder in (("their longest row", "padded_to_longest"), ("64 tokens", "padded_to_64")):
        groups = Groups.read([HERE / folder], lambda record: ("plain", ""))
        records = list_records(HERE / folder).records
        seconds = [record.times.train_s for record in records if record.times]
        took = f"{sum(seconds):.1f} s" if seconds else NOT_RUN
        lines.append(f"| {words} | {took} | {score_text(groups.score(('plain', '')))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_atomic(HERE / "table.md", table())
