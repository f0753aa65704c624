"""softcue-export, from a run to PEFT and back; on the embedded model where the mark `slow` is."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from softcue.backbone.embedded import dequantised, embedded_gguf
from softcue.errors import ConfigError, RunError
from softcue.export.__main__ import main
from softcue.export.adapter import expect_free, load_all, peft_files
from softcue.formats.folder import write_folder
from softcue.trained import load
from tests.cases import slow_but
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.running import train_one
from tests.tiny import batch_of, score_classes

TWEETS = ["@united my bag is lost again", "thanks @JetBlue for a lovely flight", "@AmericanAir hello ?"]
TYPES = {
    "prompt_tuning": "PROMPT_TUNING",
    "prefix_tuning": "PREFIX_TUNING",
    "prefix_tuning_projected": "PREFIX_TUNING",
    "p_tuning_lstm": "P_TUNING",
}
Runs = Callable[..., Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Runs:
    """Trains a method for two steps, once for the module, and gives its run's folder."""
    root = tmp_path_factory.mktemp("runs")

    def run(*overrides: str) -> Path:
        settings = train_config(
            "experiment=quickstart",
            "debug=fast",
            "backbone=local",
            f"backbone.path={tiny_backbone}",
            "backbone.name=tiny",
            "split.num_train=16",
            "split.num_test=12",
            "trainer.enable_progress_bar=false",
            "callbacks.progress_bar=null",
            f"paths.runs={root}",
            f"paths.cache={CACHE}",
            *overrides,
        )
        return train_one(settings).path

    return run


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))


def softcue_export(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    """Run the command in this process; exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr("sys.argv", ["softcue-export", *arguments])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def exported(run: Path, folder: Path) -> Path:
    write_folder(folder, peft_files(load_all(str(run), task=None), name=folder.name))
    return folder


def code_of(card: str, heading: str) -> str:
    found = re.search(rf"{heading}.*?```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("method", slow_but(["prompt_tuning"], TYPES))
def test_the_cards_own_code_gives_in_peft_the_likelihoods_that_the_run_gives(
    runs: Runs, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported(runs(f"prompt={method}", "scoring=batch"), tmp_path / "complaints")
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == TYPES[method]
    weights = dequantised(embedded_gguf(), CACHE)
    code = code_of((folder / "README.md").read_text(), "With PEFT:")
    code = re.sub(r'base = "smollm2_135m".*', f"base = {str(weights)!r}", code)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace('"..."', repr(TWEETS[0])), names)

    prompt = load(folder)
    calibrated = (names["scale"] * names["log_p"] + names["bias"]).softmax(0)
    assert calibrated.tolist() == pytest.approx([*prompt.predict(TWEETS[0]).probabilities.values()], abs=1e-4)
    for tweet in TWEETS:
        row = prompt.encoder.encode_row({"Tweet text": tweet})
        with torch.no_grad():
            scores = score_classes(prompt.lm, prompt.bank, batch_of([row.ids], prompt.encoder.choices))
        theirs = [
            names["log_likelihood"](f"Tweet text : {tweet} Label :", words)
            for words in names["words"].values()
        ]
        assert list(names["words"]) == list(prompt.task.classes)
        assert theirs == pytest.approx(scores.log_likelihood_BC[0].tolist(), abs=1e-4)


def test_the_command_writes_a_small_folder_without_pickles_that_load_reads(
    runs: Runs, tmp_path: Path
) -> None:
    run = runs("prompt=prompt_tuning")
    code, _, errors = softcue_export(f"run={run}", "output=complaints", cwd=tmp_path)
    assert (code, errors) == (0, "")
    folder = tmp_path / "complaints"
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
        "record.json",
        "prompt.safetensors",
    }
    assert sum(path.stat().st_size for path in folder.iterdir()) < 150_000
    assert [path.name for path in tmp_path.iterdir()] == ["complaints"]
    assert load(folder).predict(TWEETS) == load(run).predict(TWEETS)


def test_an_export_is_scored_by_prompt_saved_as_its_run_scored(runs: Runs, tmp_path: Path) -> None:
    run = runs("prompt=p_tuning")
    folder = exported(run, tmp_path / "export")
    for name in ("record.json", "prompt.safetensors"):
        (folder / name).unlink()
    again = load(runs("prompt=saved", f"prompt.path={folder}")).record
    first = load(run).record
    assert again.training is None
    assert again.parameters is not None
    assert again.parameters.trainable == 0
    assert again.metrics["test"] == pytest.approx(first.metrics["test"], abs=1e-6)
    assert torch.equal(
        load(run).bank.tensors()["embeddings_TPD"],
        load(runs("prompt=saved", f"prompt.path={folder}")).bank.tensors()["embeddings_TPD"],
    )


def test_the_card_states_the_records_numbers(runs: Runs, tmp_path: Path) -> None:
    run = runs("prompt=prompt_tuning", "prompt.layout='[soft:20]Judge it : {input}'")
    folder = exported(run, tmp_path / "complaints")
    card, record = (folder / "README.md").read_text(), load(run).record
    assert record.git is not None
    test = record.metrics["test"]
    assert f"| test | 12 | {test['accuracy']:.3f} | " in card
    assert f" | {test['macro_f1']:.3f} | " in card
    for stated in (
        "[20 virtual tokens]Judge it : Tweet text : {Tweet text} Label :",
        'row = "Judge it : Tweet text : " + texts["Tweet text"] + " Label :"',
        f"({20 * 16:,} numbers)",
        record.git.commit,
        record.data_fingerprint,
        f"torch {record.versions['torch']}",
        'softcue.load("complaints")',
        "2 steps, epochs: 1",
    ):
        assert stated in card
    assert card.startswith("---\nlibrary_name: peft\n")
    names: dict[str, Any] = {}
    code = (
        code_of(card, "With softcue").replace('"complaints"', repr(str(folder))).replace("print", "shown = ")
    )
    exec(code, names)
    assert names["shown"][0].label in record.settings["data"]["task"]["classes"]


REFUSALS = {
    "a suffix": (["prompt=prompt_tuning_suffix"], r"has layout '{input}\[soft:20\]', and PEFT puts virtual"),
    "an infix": (["prompt=p_tuning_infix"], r"PEFT puts virtual tokens in front of a row and nowhere else"),
    "a hard prompt": (["prompt=hard_prompt"], r"\(hard_prompt\) has no virtual tokens, only words"),
}


@pytest.mark.parametrize("mistake", REFUSALS)
def test_what_peft_cannot_hold_is_refused_with_the_reason(runs: Runs, mistake: str) -> None:
    overrides, message = REFUSALS[mistake]
    prompts = load_all(str(runs(*overrides)), task=None)
    with pytest.raises(ConfigError, match=message):
        peft_files(prompts, name="export")


def test_an_ensemble_is_refused_with_the_way_out(runs: Runs) -> None:
    member = runs("prompt=prompt_tuning")
    ensemble = load_all(str(runs("prompt=ensemble", f"prompt.runs=[{member},{member}]")), task=None)
    with pytest.raises(ConfigError, match=r"is an ensemble of 2 prompts that vote.* runs of its members"):
        peft_files(ensemble, name="export")


def test_a_mistake_is_one_line_and_a_dry_run_writes_nothing(runs: Runs, tmp_path: Path) -> None:
    run = runs("prompt=prompt_tuning")
    code, _, errors = softcue_export(f"run={run}", "to=onnx", "output=x", cwd=tmp_path)
    assert (code, errors) == (1, "error: to is 'onnx'; a prompt can be exported to peft, vllm.\n")
    _, shown, _ = softcue_export(f"run={run}", "output=x", "dry=true", cwd=tmp_path)
    assert "x would hold adapter_config.json (" in shown
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_is_replaced_only_if_asked_and_nothing_else_ever(tmp_path: Path) -> None:
    other, earlier = tmp_path / "other", tmp_path / "earlier"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"output=.*other exists and is no export"):
        expect_free(other, overwrite=True)
    write_folder(earlier, {"adapter_config.json": b"{}"})
    with pytest.raises(ConfigError, match=r"holds an export already; set overwrite=true"):
        expect_free(earlier, overwrite=False)
    expect_free(earlier, overwrite=True)
    write_folder(earlier, {"adapter_config.json": b"new", "README.md": b"new"})
    assert (earlier / "adapter_config.json").read_bytes() == b"new"
    assert {path.name for path in tmp_path.iterdir()} == {"other", "earlier"}


def test_a_full_disk_leaves_the_earlier_export_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    write_folder(folder, {"adapter_config.json": b"earlier"})

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\)"):
        write_folder(folder, {"adapter_config.json": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert (folder / "adapter_config.json").read_bytes() == b"earlier"


def test_a_run_that_did_not_finish_is_refused(runs: Runs, tmp_path: Path) -> None:
    cut_off = shutil.copytree(runs("prompt=prompt_tuning"), tmp_path / "run")
    text = (cut_off / "record.json").read_text()
    (cut_off / "record.json").write_text(text.replace('"status": "complete"', '"status": "running"'))
    with pytest.raises(RunError, match="is running, not complete"):
        load(cut_off)
