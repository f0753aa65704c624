"""Lester et al. 2021 on the embedded tweets, from the records.

`python -m experiments.lester.table` writes figure_3.md, ensembles.md and domains.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from experiments.matrix import (
    ABOUT,
    NOT_RUN,
    Groups,
    Label,
    Question,
    differences,
    matrix,
    published,
    recorded,
    score_text,
)
from softcue.report.evidence import outcomes
from softcue.report.model import Run, TaskRows
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord
from softcue.statistics.outcomes import confusion_counts, macro_f1

HERE = Path(__file__).parent
LENGTHS = ("1", "5", "20", "100")
STARTS = {
    "RandomUniform": "random uniform",
    "SampledVocabulary": "vocabulary",
    "ClassLabels": "class labels",
    "Text": "text",
}
DRAWS = ("0", "1", "2")
MEMBERS, ENSEMBLE = "mean of five prompts", "their ensemble"
DOMAINS = ("airlines", "apple", "self_driving_cars", "deflategate", "coachella")
METHODS = {
    "prompt_tuning": "prompt tuning",
    "p_tuning": "P-tuning",
    "prefix_tuning_projected": "prefix tuning, projected",
    "lora": "LoRA",
    "probe": "linear probe",
    "tfidf": "TF-IDF",
}


def has_own_draw(record: RunRecord) -> bool:
    """Whether the seed draws the labels too: such runs are Figure 3's, the others are of one draw."""
    followers: dict[str, bool] = {"prompt_tuning": record.settings["split"]["seed"] == record.seed}
    return followers.get(record.method, False)


def figure_3_label(record: RunRecord) -> Label | None:
    """The start of the virtual tokens, and how many there are."""
    if not has_own_draw(record):
        return None
    start = record.settings["prompt"]["initialiser"]["_target_"].rpartition(".")[2]
    length = record.settings["prompt"]["layout"].removeprefix("[soft:").removesuffix("]{input}")
    return STARTS[start], length


def member_label(record: RunRecord) -> Label | None:
    """A member or an ensemble, and the draw of labels."""
    draw = str(record.settings["split"]["seed"])
    if record.method == "ensemble":
        return ENSEMBLE, draw
    start = record.settings["prompt"]["initialiser"]["_target_"].rpartition(".")[2]
    is_member = start == "SampledVocabulary" and record.settings["prompt"]["layout"] == "[soft:20]{input}"
    return (MEMBERS, draw) if is_member and draw in DRAWS and record.seed < 5 else None


def figure_3() -> str:
    """Starts by lengths, and what the paper says of them."""
    groups = Groups.read(
        [HERE / "runs", *recorded("methods", "prompt_tuning"), *recorded("li_liang", "prompt_tuning")],
        figure_3_label,
    )
    told = STARTS["Text"]
    lengths = [
        Question(
            words=f"20 tokens ahead of {other}, from text",
            first=(told, "20"),
            second=(told, other),
        )
        for other in ("1", "5", "100")
    ]
    starts = [
        Question(
            words=f"text ahead of {other} as a start, {length} tokens",
            first=(told, length),
            second=(other, length),
        )
        for length in ("20", "100")
        for other in STARTS.values()
        if other != told
    ]
    scores = matrix(groups, corner="start / tokens", rows=list(STARTS.values()), columns=LENGTHS)
    return "\n".join([scores, ABOUT, differences(groups, [*lengths, *starts])])


def ensembles() -> str:
    """Each draw of labels: the members' mean, the best of them on the test rows, and the ensemble."""
    groups = Groups.read([HERE / "runs"], member_label)
    lines = [
        "| draw of labels | mean of five prompts | the best of them | their ensemble |",
        "|---|---:|---:|---:|",
    ]
    means, bests, votes = [], [], []
    for draw in DRAWS:
        members, vote = groups.score((MEMBERS, draw)), groups.score((ENSEMBLE, draw))
        best = NOT_RUN if members is None else f"{max(members.values):.3f}"
        lines.append(f"| {draw} | {score_text(members)} | {best} | {score_text(vote)} |")
        if members is not None and vote is not None:
            means.append(members.mean)
            bests.append(max(members.values))
            votes.append(vote.mean)
    if means:
        lines.append(f"| mean | {fmean(means):.3f} | {fmean(bests):.3f} | {fmean(votes):.3f} |")
    asked = [
        Question(
            words=f"the ensemble ahead of its members, draw {draw}",
            first=(ENSEMBLE, draw),
            second=(MEMBERS, draw),
        )
        for draw in DRAWS
    ]
    return "\n".join(["\n".join(lines) + "\n", ABOUT, differences(groups, asked)])


def domain_groups() -> Groups:
    """Every method on every domain: a run's predictions, divided by the domain in a row's id."""
    whole = Groups.read([HERE / "domains"], lambda record: (METHODS[record.method], "all"))
    if whole.rows is None:
        return whole
    parts = {
        (method, domain): [_of_domain(run, whole.rows, domain) for run in runs]
        for (method, _), runs in whole.runs.items()
        for domain in DOMAINS
    }
    return Groups(runs=parts, rows=whole.rows)


def _of_domain(run: Run, rows: TaskRows, domain: str) -> Run:
    predictions = run.predictions
    assert predictions is not None
    own_B = np.array([rows.ids[row].startswith(f"{domain}:") for row in predictions.row_B])
    part = replace(
        predictions,
        row_B=predictions.row_B[own_B],
        predicted_B=predictions.predicted_B[own_B],
        probability_BC=predictions.probability_BC[own_B],
        nll_B=predictions.nll_B[own_B],
    )
    own = replace(run, predictions=part, rows=int(own_B.sum()))
    found = outcomes(own, rows)
    ones = np.ones((len(found.row_B), 1), dtype=np.float32)
    return replace(own, scores={"macro_f1": float(macro_f1(confusion_counts(found, ones))[0])})


def domains() -> str:
    """Methods by domains, and prompt tuning against LoRA on each: Tables 1 and 2 ask this of model tuning."""
    groups = domain_groups()
    asked = [
        Question(
            words=f"prompt tuning ahead of LoRA on {domain}",
            first=(METHODS["prompt_tuning"], domain),
            second=(METHODS["lora"], domain),
        )
        for domain in DOMAINS
    ]
    scores = matrix(groups, corner="trained on airlines", rows=list(METHODS.values()), columns=DOMAINS)
    return "\n".join([scores, ABOUT, differences(groups, asked)])


if __name__ == "__main__":
    write_atomic(HERE / "figure_3.md", figure_3())
    write_atomic(HERE / "ensembles.md", ensembles())
    write_atomic(HERE / "domains.md", domains())
    write_atomic(HERE / "published.md", published(HERE / "paper.csv"))
