"""results.json as the tables of docs/speed.md: each measurement, the peer's, and their ratio."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Result = dict[str, Any]


def markdown(results: list[Result]) -> str:
    """Training steps, other comparisons, the share of the limit, growth, and start-up times."""
    by_work: dict[str, list[Result]] = {}
    for result in results:
        by_work.setdefault(result["work"], []).append(result)
    training = by_work.pop("training step", [])
    limits = by_work.pop("matrix-product limit", [])
    starts = by_work.pop("start-up", [])
    compared = [r for rows in by_work.values() for r in rows if r["peer_s"] is not None]
    grown = [r for rows in by_work.values() for r in rows if r["peer_s"] is None]
    return "\n".join(
        [
            "A training step: 16 tweets as long as RAFT's, 20 virtual tokens; PEFT in float32.",
            "In brackets, the peak of memory above the loaded model.\n",
            _training_table(training),
            "Suffix prompts, evaluation, generation and the plain engine, on the same 16 rows.\n",
            _compared_table(compared),
            "How much of a float32 step its matrix products alone would take at a product's rate,",
            "and where the step's processor time goes, in percent.\n",
            _limit_table(limits),
            "How a float32 step of prompt tuning grows (SmolLM2-135M, 16 rows, 20 virtual tokens except",
            "where named; memory above the model).\n",
            _growth_table(grown),
            *_start_table(starts),
        ]
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _training_table(results: list[Result]) -> str:
    steps: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        steps.setdefault((result["model"], result["method"], result["dtype"]), []).append(result)
    rows = []
    for (model, method, dtype), peers in steps.items():
        cells = [model, method, dtype, f"{peers[0]['ours_s']:.2f} s ({peers[0]['ours_mb']:,.0f} MB)"]
        for peer in peers:
            cells.append(f"{peer['peer_s']:.2f} s ({peer['peer_mb']:,.0f} MB)")
            cells.append(f"**{peer['ratio']:.1f} ×** ({peer['memory_ratio']:.1f} ×)")
        rows.append(cells)
    header = [
        "model",
        "method",
        "ours in",
        "ours",
        "PEFT, padded to 64",
        "ratio",
        "PEFT, padded to the batch",
    ]
    return table([*header, "ratio"], rows)


def _compared_table(results: list[Result]) -> str:
    return table(
        ["work", "model", "ours in", "ours", "against", "takes", "ratio"],
        (
            [
                result["work"],
                result["model"],
                result["dtype"],
                f"{result['ours_s']:.2f} s",
                result["peer"],
                f"{result['peer_s']:.2f} s",
                f"**{result['ratio']:.1f} ×**",
            ]
            for result in results
        ),
    )


def _limit_table(results: list[Result]) -> str:
    return table(
        ["model", "method", "step", "products alone", "share", "products : attention : the rest"],
        (
            [
                result["model"],
                result["method"],
                f"{result['ours_s']:.2f} s",
                f"{result['peer_s']:.2f} s, {result['peer'].removeprefix('products alone at ')}",
                f"**{100 * result['ratio']:.0f} %**",
                " : ".join(f"{100 * share:.0f}" for share in result["step_shares"].values()),
            ]
            for result in results
        ),
    )


def _start_table(results: list[Result]) -> list[str]:
    rows = [[result["command"], f"{result['ours_s']:.1f} s"] for result in results]
    return (
        ["Commands that train nothing, from start to end.\n", table(["command", "takes"], rows)]
        if rows
        else []
    )


def _growth_table(results: list[Result]) -> str:
    kinds: dict[str, list[Result]] = {}
    for result in results:
        kinds.setdefault(result["work"].removeprefix("growth with "), []).append(result)
    return table(
        ["with", "step", "memory"],
        (
            [
                f"{kind}: {', '.join(str(r['value']) for r in rows)}",
                ", ".join(f"{r['ours_s']:.2f}" for r in rows) + " s",
                ", ".join(f"{r['ours_mb']:,.0f}" for r in rows) + " MB",
            ]
            for kind, rows in kinds.items()
        ),
    )


if __name__ == "__main__":
    (HERE / "table.md").write_text(markdown(json.loads((HERE / "results.json").read_text())))
