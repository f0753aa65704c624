"""Damaged, mixed-up and hostile files of a received folder: each is one error that names the place."""

from __future__ import annotations

import copy
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from softcue.contracts import PromptBank
from softcue.errors import RunError, SoftcueError
from softcue.formats.peft import CONFIG, WEIGHTS
from softcue.formats.peft_reader import open_adapter
from softcue.formats.peft_tensors import PICKLED_WEIGHTS
from softcue.formats.prompt_file import PROMPT, bank_to_bytes, load_bank
from softcue.formats.tensor_file import MAX_NUMBERS
from softcue.runs.store import RECORD
from softcue.trained import load
from tests.tiny import HIDDEN, LAYERS, tiny_lm
from tests.trust.files import TOKENS, adapter_in, sparse
from tests.trust.payloads import replaced
from tests.trust.tiny_runs import TEXTS, TinyRuns

HEADS, HEAD_SIZE = 2, 8
ABOUT = {"backbone": "tiny", "layout": "[soft:3]{input}"}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not read from a YAML file for every example."""
    monkeypatch.setattr("softcue.trained.default_cache", lambda: str(tmp_path / "cache"))


@pytest.fixture
def folder(runs: TinyRuns, tmp_path: Path) -> Path:
    return shutil.copytree(runs("prompt_tuning"), tmp_path / "run")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return adapter_in(tmp_path)


def embeddings(*shape: int) -> Tensor:
    return torch.ones(shape or (1, TOKENS, HIDDEN))


def key_values(**sizes: int) -> dict[str, Tensor]:
    of = {"prompts": 1, "layers": LAYERS, "heads": HEADS, "tokens": TOKENS, "size": HEAD_SIZE, **sizes}
    return {name: torch.ones(tuple(of.values())) for name in ("keys_TLHPK", "values_TLHPK")}


def nan_at_end() -> Tensor:
    tensor = embeddings()
    tensor[0, -1, -1] = float("nan")
    return tensor


PROMPTS: dict[str, tuple[dict[str, Tensor], dict[str, str], str]] = {
    "not a number": (
        {"embeddings_TPD": nan_at_end()},
        {},
        r"embeddings_TPD has 1 numbers that are NaN or infi",
    ),
    "infinite": (
        {"embeddings_TPD": embeddings() / 0},
        {},
        r"embeddings_TPD has 96 numbers that are NaN or inf",
    ),
    "missing": ({}, {}, r"has virtual tokens 0, and record\.json has 3"),
    "half": (
        {"keys_TLHPK": key_values()["keys_TLHPK"]},
        {},
        r"lacks \['values_TLHPK'\] and has \[\] besides",
    ),
    "foreign": ({"weight": embeddings()}, {}, r"lacks \[\] and has \['weight'\] besides"),
    "two forms": (
        {"embeddings_TPD": embeddings(), **key_values()},
        {},
        r"has \['embeddings_TPD'\] besides",
    ),
    "another axis": (
        {"embeddings_TPD": embeddings(TOKENS, HIDDEN)},
        {},
        r"has shape \(3, 32\); it has 3 axes",
    ),
    "no number": ({"embeddings_TPD": embeddings(1, TOKENS, 0)}, {}, r"shape \(1, 3, 0\), so no number"),
    "another type": ({"embeddings_TPD": embeddings().half()}, {}, r"stored as F16, not F32"),
    "more tokens": (
        {"embeddings_TPD": embeddings(1, 4, HIDDEN)},
        {},
        r"has virtual tokens 4, and record\.json has 3",
    ),
    "wider": ({"embeddings_TPD": embeddings(1, TOKENS, 48)}, {}, r"has numbers 144, and record\.json has 96"),
    "two prompts": (
        {"embeddings_TPD": embeddings(2, TOKENS, HIDDEN)},
        {},
        r"has number of prompts 2, and .* has 1",
    ),
    "another form": (key_values(), {}, r"has form 'keys and values', and record\.json has 'embeddings'"),
    "uneven keys": (
        {**key_values(), "values_TLHPK": key_values(layers=1)["values_TLHPK"]},
        {},
        r"keys are \(1, 3, 2, 3, 8\) and values \(1, 1, 2, 3, 8\)",
    ),
    "a vote": (
        {"embeddings_TPD": embeddings()},
        {"vote": "majority"},
        r"has vote 'majority', and .* has None",
    ),
    "an unknown vote": (
        {"embeddings_TPD": embeddings()},
        {"vote": "loudest"},
        r"has vote 'loudest'; it is majority",
    ),
    "another backbone": (
        {"embeddings_TPD": embeddings()},
        {"backbone": "bloom"},
        r"has backbone 'bloom', .* 'tiny'",
    ),
    "another layout": (
        {"embeddings_TPD": embeddings()},
        {"layout": "{input}[soft:3]"},
        r"has layout '{input}\[soft:3\]', and record\.json has '\[soft:3\]{input}'",
    ),
    "short lengths": (
        {"embeddings_TPD": embeddings(), "lengths_T": torch.tensor([2])},
        {},
        r"has numbers 97, and record\.json has 96",
    ),
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_that_is_not_the_records_is_refused_by_name(folder: Path, prompt: str) -> None:
    tensors, changed, message = PROMPTS[prompt]
    (folder / PROMPT).write_bytes(save(tensors, metadata={**ABOUT, **changed}))
    with pytest.raises(RunError, match=message) as raised:
        load(folder)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize(("lengths", "message"), [([2], r"lengths are 1 to 3"), ([0], r"lengths are 1 to 3")])
def test_lengths_that_no_prompt_has_are_refused(tmp_path: Path, lengths: list[int], message: str) -> None:
    tensors = {"embeddings_TPD": embeddings(), "lengths_T": torch.tensor(lengths)}
    (tmp_path / PROMPT).write_bytes(save(tensors, metadata=ABOUT))
    with pytest.raises(RunError, match=message):
        load_bank(tmp_path / PROMPT)


def test_a_prompt_wider_than_its_model_is_refused_with_both_sizes(folder: Path) -> None:
    bank = PromptBank(embeddings_TPD=embeddings(1, TOKENS, 48))
    (folder / PROMPT).write_bytes(bank_to_bytes(bank, ABOUT))
    change_record(folder, ("parameters", "shipped"), TOKENS * 48)
    with pytest.raises(RunError, match=r"a model of {'hidden size': 48}, and tiny has {'hidden size': 32}"):
        load(folder).predict(TEXTS)


def test_numbers_so_large_that_the_model_gives_nan_are_no_prediction(runs: TinyRuns, tmp_path: Path) -> None:
    folder = shutil.copytree(runs("prefix_tuning"), tmp_path / "prefix")
    bank = load(folder).bank
    assert bank.keys_TLHPK is not None
    large = replace(bank, keys_TLHPK=torch.full_like(bank.keys_TLHPK, 3e38))
    (folder / PROMPT).write_bytes(bank_to_bytes(large, ABOUT))
    with pytest.raises(RunError, match=r"the model gives NaN with this prompt, .* as large as 3e\+38"):
        load(folder).predict(TEXTS)


def test_a_backbone_of_ones_own_is_given_and_not_named(folder: Path) -> None:
    change_record(folder, ("settings", "backbone", "_target_"), "mine.load_model")
    with pytest.raises(
        RunError, match=r"kind 'mine\.load_model', which is none of .*softcue\.load\(folder, back"
    ):
        load(folder)
    given = load(folder, backbone=tiny_lm("llama"))
    assert given.predict(TEXTS[0]).label in ("yes", "no")


def change_record(folder: Path, place: tuple[str, ...], value: object) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(replaced(record, place, value)))


def test_a_record_of_softcue_0_1_0_is_read(folder: Path) -> None:
    expected = load(folder).predict(TEXTS)
    record = json.loads((folder / RECORD).read_text())
    del record["settings"]["backbone"]["engine"], record["settings"]["backbone"]["gradient_checkpointing"]
    record["settings"]["scoring"]["_target_"] = "softcue.objectives.Scoring"
    (folder / RECORD).write_text(json.dumps(record))
    assert load(folder).predict(TEXTS) == expected


RECORDS: dict[str, tuple[tuple[str, ...], object, str]] = {
    "backbone": (
        ("settings", "backbone", "_target_"),
        "os.system",
        r"settings\.backbone is of kind 'os\.system'",
    ),
    "task": (
        ("settings", "data", "task", "_target_"),
        "os.system",
        r"settings\.data\.task is of kind 'os\.system'",
    ),
    "scoring": (
        ("settings", "scoring", "_target_"),
        "x",
        r"settings\.scoring is of kind 'x', .* nothing of it was run",
    ),
    "type": (("settings", "scoring", "per_token"), "yes", r"scoring\.per_token is 'yes': .* valid boolean"),
    "number": (("settings", "data", "max_length"), 1.5, r"settings\.data\.max_length is 1\.5"),
    "zero": (("settings", "data", "max_length"), 0, r"settings\.data\.max_length is 0; it is 1 or more"),
    "layout": (
        ("settings", "prompt", "layout"),
        ["[soft:3]"],
        r"settings\.prompt\.layout is \['\[soft:3\]'\]",
    ),
    "no slot": (
        ("settings", "prompt", "layout"),
        "{text}",
        r"settings\.prompt\.layout: prompt\.layout uses column",
    ),
    "huge slot": (
        ("settings", "prompt", "layout"),
        f"[soft:{'9' * 5000}]{{input}}",
        r"prompt\.layout: .*\[soft:999",
    ),
    "long text": (
        ("settings", "prompt", "layout"),
        "x" * 200_000,
        r"settings\.prompt has 200,000 characters; at most 100,000",
    ),
    "classes": (
        ("settings", "data", "task", "classes"),
        ["a"] * 20_000,
        r"settings\.data has 20,000 entries; at most 10,000",
    ),
    "one class": (
        ("settings", "data", "task", "classes"),
        ["yes"],
        r"settings\.data: data\.task\.classes is \['yes'\]",
    ),
    "dtype": (("settings", "backbone", "dtype"), "int8", r"settings\.backbone\.dtype is 'int8'"),
    "own dtype": (
        ("dtype",),
        "float32); import os",
        r"record\.json dtype is 'float32\); import os', not one of",
    ),
    "escape": (("method",), "\x1b[2J", r"record\.json method is '\\x1b\[2J', which has control characters"),
    "repository": (
        ("settings", "backbone", "repo"),
        "x/y",
        r"settings\.backbone needs exactly .* not 'repo', which is unknown here",
    ),
}


@pytest.mark.parametrize("record", RECORDS)
def test_an_unfit_value_of_a_record_is_named_with_its_place(folder: Path, record: str) -> None:
    place, value, message = RECORDS[record]
    record_now = json.loads((folder / RECORD).read_text())
    node = record_now
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    (folder / RECORD).write_text(json.dumps(record_now))
    with pytest.raises(RunError, match=message):
        load(folder)


def test_files_beyond_all_measure_are_refused_unread(folder: Path, adapter: Path) -> None:
    deep = b"[" * 100_000
    for file, reader in (
        (folder / RECORD, lambda: load(folder)),
        (adapter / CONFIG, lambda: open_adapter(adapter)),
    ):
        content = file.read_bytes()
        for bad in (deep, b'{"a":' * 100_000, b"", b"null", b"\xff", b'{"schema_version":1}', b"9" * 10_000):
            file.write_bytes(bad)
            with pytest.raises(SoftcueError):
                reader()
        with file.open("wb") as opened:
            opened.truncate(10**12)
        with pytest.raises(RunError, match="has 1,000,000,000,000 bytes; at most 16,000,000 are read"):
            reader()
        file.write_bytes(content)


def test_a_named_pipe_is_not_waited_for(folder: Path) -> None:
    for name in (PROMPT, RECORD):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(RunError):
            load(folder)


def test_tensors_larger_than_any_prompt_are_refused_unread(folder: Path, adapter: Path) -> None:
    width = MAX_NUMBERS // TOKENS + 1
    sparse(folder / PROMPT, {"embeddings_TPD": [1, TOKENS, width]}, ABOUT)
    with pytest.raises(RunError, match=r"declares 536,870,913 numbers; a prompt has at most 536,870,912"):
        load(folder)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, "token_dim": 2**30}))
    with pytest.raises(RunError, match=r"adapter_config\.json declares .* numbers"):
        open_adapter(adapter)


def test_an_adapter_whose_weights_are_larger_than_its_config_says_is_refused_unread(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse(adapter / WEIGHTS, {"prompt_embeddings": [2**14, 2**14]})
    monkeypatch.setattr("softcue.formats.peft_tensors.read_tensors", None)
    with pytest.raises(RunError, match=r"holds tensors {'prompt_embeddings': \(16384, 16384\)}, and its"):
        open_adapter(adapter).bank()


def test_a_pickle_whose_entries_share_their_bytes_is_refused_unread(adapter: Path) -> None:
    (adapter / WEIGHTS).unlink()
    weights = adapter / PICKLED_WEIGHTS
    torch.save({"prompt_embeddings": torch.zeros(TOKENS, HIDDEN)}, weights)
    content, (entry,) = weights.read_bytes(), _entries(weights, "data/0")
    with zipfile.ZipFile(weights, "a") as archive:
        for number in range(1, 99):
            again = copy.copy(entry)
            again.filename = again.orig_filename = f"{entry.filename}{number}"
            archive.filelist.append(again)
        setattr(archive, "_didModify", True)  # noqa: B010 - private: write the changed list at the end
    assert weights.stat().st_size < 98 * TOKENS * HIDDEN * 4 + len(content)
    with pytest.raises(RunError, match="is compressed, as PEFT saves none"):
        open_adapter(adapter).bank()


def _entries(path: Path, end: str) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(path) as archive:
        return [entry for entry in archive.infolist() if entry.filename.endswith(end)]


def test_a_compressed_or_repeated_pickle_is_refused_unread(adapter: Path) -> None:
    (adapter / WEIGHTS).unlink()
    weights = adapter / PICKLED_WEIGHTS
    torch.save({"prompt_embeddings": embeddings(1, 1, 1)[0].expand(TOKENS, HIDDEN)}, weights)
    with pytest.raises(RunError, match="prompt_embeddings does not hold all its numbers"):
        open_adapter(adapter).bank()
    torch.save({"prompt_embeddings": torch.zeros(TOKENS, HIDDEN)}, weights)
    open_adapter(adapter).bank()
    with zipfile.ZipFile(weights) as stored:
        entries = {entry.filename: stored.read(entry) for entry in stored.infolist()}
    with zipfile.ZipFile(weights, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    with pytest.raises(RunError, match="is compressed, as PEFT saves none"):
        open_adapter(adapter).bank()


def test_a_file_that_declares_more_than_the_machines_memory_is_refused(adapter: Path) -> None:
    sparse(adapter / WEIGHTS, {"prompt_embeddings": [2**20, 2**20]})
    with pytest.raises(RunError, match=r"is not a readable safetensors file|holds tensors"):
        open_adapter(adapter).bank()


def test_a_folder_that_an_interrupted_export_moved_aside_is_read_under_its_name(folder: Path) -> None:
    expected = load(folder).predict(TEXTS)
    folder.rename(folder.with_name(f".{folder.name}.elsewhere-4711-0123abcd.old"))
    assert load(folder).predict(TEXTS) == expected
