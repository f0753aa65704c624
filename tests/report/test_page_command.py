"""`softcue-report` writes the page and the plots of runs from their folders."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from softcue.report.__main__ import main
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from tests.report.comparisons import RECORD

TEXTS = ["@united <b>thanks</b>", "never again"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run that has stored the texts of its rows, and one of an older version, which has not."""
    for method, texts in (("prompt_tuning", TEXTS), ("p_tuning", None)):
        folder = RunFolder(tmp_path / "runs", f"{method}-000000000000")
        folder.create()
        record = json.loads(RECORD.to_json()) | {"method": method, "run_id": folder.path.name}
        record["settings"]["prompt"] = {"name": method}
        folder.write_record(RunRecord.from_json(json.dumps(record)))
        columns: dict[str, Sequence[object]] = {
            "id": ["7", "8"],
            "label": ["complaint", "no complaint"],
            "predicted": ["complaint", "complaint"],
            "nll": [0.1, 1.2],
            "p(complaint)": [0.9, 0.7],
            "p(no complaint)": [0.1, 0.3],
        }
        folder.write_predictions(part="test", columns=columns if texts is None else columns | {"text": texts})
    return tmp_path


@pytest.mark.slow
def test_a_page_and_plots_are_written_beside_the_table(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setattr(sys, "argv", ["softcue-report", "page=report.html", "plots=plots"])
    main()
    printed = capsys.readouterr().out
    assert "prompt_tuning" in printed
    assert "not drawn: learning_curves: no run's folder holds a learning curve" in " ".join(printed.split())
    assert (runs / "plots" / "forest.svg").stat().st_size > 1000
    assert (runs / "plots" / "forest.png").read_bytes().startswith(b"\x89PNG")
    text = (runs / "report.html").read_text()
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    (task,) = json.loads(data)
    assert (task["ids"], task["texts"], task["target"]) == (["7", "8"], TEXTS, [0, 1])
    assert sorted(cell["name"] for cell in task["cells"]) == ["p_tuning", "prompt_tuning"]
