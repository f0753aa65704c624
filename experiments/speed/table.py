"""results.json as the README's table: what was measured, ours, the peer's, and their ratio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HEADER = "| work | model, method | ours | peer | ratio | memory, ours : peer |\n|---|---|---|---|---|---|\n"


def markdown(results: list[dict[str, Any]]) -> str:
    """One line a comparison; growth without a peer is in results.json alone."""
    return HEADER + "".join(_line(result) for result in results if result["peer_s"] is not None)


def _line(result: dict[str, Any]) -> str:
    ours = f"{result['ours_s']:.2f} s {result['dtype']}"
    peer = f"{result['peer_s']:.2f} s {result['peer']}"
    memory = "–"
    if result["memory_ratio"] is not None:
        memory = f"{result['ours_mb']:,.0f} : {result['peer_mb']:,.0f} MB"
    if result["work"] == "matrix-product limit":
        ratio = f"{100 * result['ratio']:.0f} % of the step"
    else:
        ratio = f"**{result['ratio']:.1f} ×**"
    what = f"{result['work']} | {result['model']}, {result['method']}"
    return f"| {what} | {ours} | {peer} | {ratio} | {memory} |\n"


if __name__ == "__main__":
    (HERE / "table.md").write_text(markdown(json.loads((HERE / "results.json").read_text())))
