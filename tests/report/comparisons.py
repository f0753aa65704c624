"""Comparisons made of random numbers, for what reads them: plots and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from softcue.report.model import (
    BestOfK,
    Caution,
    Cell,
    CellScore,
    Claim,
    Comparison,
    Cost,
    Curve,
    Interval,
    Pair,
    Power,
    Ranks,
    Run,
    RunPredictions,
    TaskComparison,
    TaskRows,
)
from softcue.runs.metrics import METRICS
from softcue.runs.record import RunRecord

RECORD = RunRecord.from_json((Path(__file__).parents[1] / "runs" / "record_v1.json").read_text())
CLASSES = ("complaint", "no complaint")
WORDS = (
    "flight",
    "delay",
    "crew",
    "thanks",
    "bag",
    "lost",
    "gate",
    "late",
    "great",
    "service",
    "hours",
    "seat",
)
METHODS: Mapping[str, Mapping[str, str]] = {
    "prompt_tuning": {},
    "p_tuning": {},
    "prefix_tuning": {},
    "tfidf": {},
}


def make_rows(count: int, classes: tuple[str, ...] = CLASSES, first_text: str = "") -> TaskRows:
    """Rows of random words; `first_text` is the text of the first one."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, size=12)) for _ in range(count)]
    return TaskRows(
        ids=tuple(str(100 + row) for row in range(count)),
        texts=(first_text or texts[0], *texts[1:]),
        target_N=random.integers(len(classes), size=count),
        classes=classes,
    )


def make_run(cell: str, seed: int, rows: TaskRows, *, method: str, skill: float) -> Run:
    """A run that is right on about `skill` of the rows."""
    random = np.random.default_rng([seed, *cell.encode()])
    logits_NC = random.normal(size=(len(rows.ids), len(rows.classes)))
    logits_NC[np.arange(len(rows.ids)), rows.target_N] += 4 * (skill - 0.5)
    probability_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    predicted_N = probability_NC.argmax(axis=1)
    accuracy = float((predicted_N == rows.target_N).mean())
    step_S = np.arange(10.0, 110.0, 10.0)
    loss = Curve(name="train/loss", step_S=step_S, value_S=np.exp(-step_S / 40) + random.random(10) / 9)
    return Run(
        run_id=f"{method}-{seed:012x}",
        method=method,
        task="airline_complaints",
        replicate={"seed": str(seed)},
        scores={"accuracy": accuracy, "macro_f1": accuracy - 0.01},
        rows=len(rows.ids),
        predictions=RunPredictions(
            row_B=np.arange(len(rows.ids)),
            predicted_B=predicted_N,
            probability_BC=probability_NC,
            nll_B=-np.log(probability_NC[np.arange(len(rows.ids)), rows.target_N]),
        ),
        cost=Cost(),
        record=replace(RECORD, method=method, seed=seed, run_id=f"{method}-{seed:012x}"),
        curves=() if method == "tfidf" else (loss,),
    )


def make_cell(
    method: str, settings: Mapping[str, str], rows: TaskRows, *, seeds: int, place: int, skill: float
) -> Cell:
    key = ", ".join([method, *(f"{path}={value}" for path, value in settings.items())])
    runs = tuple(make_run(key, seed, rows, method=method, skill=skill) for seed in range(seeds))
    return Cell(
        key=key,
        method=method,
        task="airline_complaints",
        settings=settings,
        runs=runs,
        scores={name: _score(name, [run.scores[name] for run in runs]) for name in ("accuracy", "macro_f1")},
        cost=Cost(
            trainable_parameters=[11520, 480000, 921600, 1500][place % 4],
            shipped_bytes=[46080, 46080, 1843200, 6000][place % 4],
            train_s=[348.0, 400.0, 300.0, 0.1][place % 4],
            process_memory_mb=[1900.0, 2100.0, 2500.0, 800.0][place % 4],
            gpu_memory_mb=[700.0, 900.0, 1300.0, None][place % 4],
        ),
        distinguishable=None if place == 0 else place > 1,
    )


def _score(name: str, values: Sequence[float]) -> CellScore:
    mean, std = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
    half = 2 * (std or 0) / len(values) ** 0.5 + 0.02
    interval = Interval(low=mean - half, high=mean + half)
    return CellScore(metric=name, values=tuple(values), mean=mean, std=std, interval=interval)


def make_task(
    cells: Sequence[tuple[str, Mapping[str, str]]] = tuple(METHODS.items()),
    *,
    task: str = "airline_complaints",
    seeds: int = 3,
    rows: TaskRows | None = None,
) -> TaskComparison:
    """Cells of falling skill, the best first, with every pair."""
    rows = rows or make_rows(60)
    skills = np.linspace(0.85, 0.6, len(cells))
    made = [
        make_cell(method, settings, rows, seeds=seeds, place=place, skill=float(skill))
        for place, ((method, settings), skill) in enumerate(zip(cells, skills, strict=True))
    ]
    made.sort(key=lambda cell: -cell.scores["macro_f1"].mean)
    best = made[0]
    return TaskComparison(
        task=task,
        backbones=("smollm2_135m",),
        cells=tuple(made),
        settings=tuple(dict.fromkeys(path for cell in made for path in cell.settings)),
        rows=rows,
        pairs=tuple(_pair(first, second) for first, second in combinations(made, 2)),
        all_pairs=True,
        claims=(
            Claim(
                text=f"{best.method} is ahead of {made[-1].method} by .106 [.02, .19].",
                metric="macro_f1",
                cells=(best.key, made[-1].key),
                kind="ahead",
            ),
        ),
        cautions=(Caution(kind="versions", text="Runs used torch 2.12 and 2.13."),),
        best_of_k=(
            BestOfK(
                task=task,
                method=best.method,
                metric="macro_f1",
                trials=3,
                validation=(0.6, 0.7, 0.75),
                shown=(0.6, 0.68, 0.7),
            ),
        ),
    )


def _pair(first: Cell, second: Cell) -> Pair:
    difference = first.scores["macro_f1"].mean - second.scores["macro_f1"].mean
    return Pair(
        task=first.task,
        metric="macro_f1",
        first=first.key,
        second=second.key,
        difference=difference,
        interval=Interval(low=difference - 0.07, high=difference + 0.07),
        better=first.key,
        paired=True,
        n=3,
        rows=60,
        p=0.01 if difference > 0.07 else 0.4,
        p_holm=0.03 if difference > 0.07 else 0.8,
        p_rows=0.01,
        p_seeds=0.25,
        mcnemar=None,
        probability_of_improvement=0.9,
        power=Power(rows=1900, seeds=None),
    )


def make_comparison(*tasks: TaskComparison, ranks: Ranks | None = None) -> Comparison:
    return Comparison(
        part="test",
        metrics=(METRICS["accuracy"], METRICS["macro_f1"]),
        sort_by=METRICS["macro_f1"],
        tasks=tasks or (make_task(),),
        sources=("runs/demo",),
        ranks=ranks,
        notes=("failed: p_tuning, seed 2 (p_tuning-000000000002): TrainingError: the loss is nan",),
    )


def make_ranks(tasks: int = 5) -> Ranks:
    return Ranks(
        metric="macro_f1",
        tasks=tuple(f"task_{index}" for index in range(tasks)),
        mean_rank={"prompt_tuning": 1.4, "p_tuning": 2.2, "prefix_tuning": 2.6, "tfidf": 3.8},
        p=0.01,
        critical_difference=2.1,
        groups=(("prompt_tuning", "p_tuning", "prefix_tuning"), ("p_tuning", "prefix_tuning", "tfidf")),
    )
