"""softcue-data init writes a YAML that trains the very run that the table alone would."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcue.data.__main__ import main
from softcue.plan import prepare
from tests.composing import train_config
from tests.own_data.conftest import write_reviews

LABELS = ('so "so"', "it's \\ ok: #1", "great\u2028")


def test_the_yaml_gives_the_run_of_the_table(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_reviews(tmp_path, LABELS[:2], name="my reviews.csv")
    monkeypatch.chdir(tmp_path)
    main(["init", str(path)])
    assert "softcue-train --config-dir conf" in capsys.readouterr().out
    searched = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    (own,) = prepare(train_config(*quick, searched, "data='my reviews'"))
    (table,) = prepare(train_config(*quick, "data=table", f"data.source.path='{path}'"))
    assert own.folder.path.name == table.folder.path.name
    assert own.settings["data"]["task"]["classes"] == sorted(LABELS[:2])


def test_an_existing_yaml_and_a_missing_column_are_one_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_reviews(tmp_path, ("good", "bad"))
    monkeypatch.chdir(tmp_path)
    main(["init", str(path), "--output", "mine/data/a.yaml"])
    for arguments, message in (
        (["--output", "mine/data/a.yaml"], "exists; give another --output"),
        (["--label-column", "stars"], "label_column is 'stars'"),
    ):
        with pytest.raises(SystemExit):
            main(["init", str(path), *arguments])
        assert message in capsys.readouterr().err
