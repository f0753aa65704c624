"""What anyone may hand to softcue, drawn at random: whatever it is, the only exceptions are softcue's own.

Each kind has what is drawn and what uses it. The tests try a few of each, and the attack table of
experiments/trust many.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save

from softcue.configs.ranges import RANGES, expect_in_range
from softcue.data.assumed import classes_of, template_of
from softcue.data.columns import Columns
from softcue.data.encoded import EncodedRow, read_encoded, write_encoded
from softcue.data.pool import Pool, make_pool, pick_examples
from softcue.data.splits import AllLabelled, FewShot, FewShotFolds, KFold, Splitter
from softcue.data.tables import open_table, read_table
from softcue.data.task import Task
from softcue.data.template import compose
from softcue.errors import RunError, SoftcueError
from softcue.formats.peft import CONFIG, WEIGHTS
from softcue.formats.peft_reader import open_adapter
from softcue.formats.peft_tensors import PICKLED_WEIGHTS
from softcue.formats.prompt_file import PROMPT, load_bank
from softcue.report.runs import load_runs
from softcue.report.sources import Source
from softcue.runs.curve import CURVE, read_curve
from softcue.runs.record import RunRecord
from softcue.runs.store import RECORD, list_records
from softcue.sweep.curve import last_point
from softcue.sweep.plan import Plan, PlannedJob, read_plan, write_plan
from softcue.trained import load
from softcue.training.checkpoints import SealedCheckpoints
from softcue.training.loggers import CurveLogger
from softcue.training.resume import resumable
from tests.tiny import HIDDEN
from tests.trust.files import TOKENS, adapter_in, sparse
from tests.trust.payloads import places, replaced
from tests.trust.tiny_runs import TEXTS

Runs = Callable[[str], Path]
Use = Callable[[Any], None]
"""Uses what was drawn: SoftcueError if it is refused, an assertion if something wrong is accepted."""


@dataclass(frozen=True, kw_only=True)
class Fuzz:
    """What is drawn, and what makes the files around it, in an empty folder, and returns its use."""

    drawn: st.SearchStrategy[Any]
    prepare: Callable[[Path, Runs], Use]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["{input}", "[soft:3]{input}", "_target_", "softcue.data.task.Task", "~x", "\0", "-1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Any value that JSON can hold."""

WHERE = st.integers(0, 2**32)
"""A place, modulo the number of places."""
DAMAGE = st.lists(st.tuples(WHERE, st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4)
"""Where bytes are replaced, how many, and by what."""


def damaged(content: bytes, damage: list[tuple[int, int, bytes]]) -> bytes:
    """The content with bytes changed, cut out or put in."""
    for where, cut, put in damage:
        at = where % (len(content) + 1)
        content = content[:at] + put + content[at + cut :]
    return content


def with_file(file: Path, use: Callable[[], object]) -> Callable[[bytes], None]:
    """Put other content into a file, use it, and put the original back."""
    original = file.read_bytes()

    def change(content: bytes) -> None:
        file.write_bytes(content)
        try:
            use()
        finally:
            file.write_bytes(original)

    return change


def damaging(file: Path, use: Callable[[], object]) -> Use:
    """Damage a file and use it."""
    original, change = file.read_bytes(), with_file(file, use)
    return lambda damage: change(damaged(original, damage))


# -- what is typed: templates, layouts, tasks, splits, numbers

PIECES = st.lists(
    st.sampled_from(
        ["{", "}", "{input}", "{text}", "[soft:", "]", "3", "-1", "9" * 30, " ", "x", "é", "\x00"]
    )
    | st.text(max_size=3),
    max_size=6,
).map("".join)
NAMES = st.lists(st.text(max_size=4) | st.integers() | st.booleans() | st.floats(), max_size=4)


def _compose(_: Path, __: Runs) -> Use:
    def use(drawn: tuple[str, str]) -> None:
        compose(*drawn)

    return use


def _task(_: Path, __: Runs) -> Use:
    def use(drawn: tuple[str, list[Any], list[Any]]) -> None:
        template, classes, words = drawn
        verbalizer = dict(zip(classes, words, strict=False))
        Task(name="t", template=template, classes=tuple(classes), verbalizer=verbalizer, end_token=False)

    return use


SMALL = st.integers(-3, 25)
SPLITS: st.SearchStrategy[Splitter] = (
    st.builds(
        FewShot,
        num_train=SMALL,
        num_validation=SMALL,
        num_test=st.none() | SMALL,
        balance=st.sampled_from(["natural", "equal", "even"]),
        seed=st.integers(0, 2**32 - 1),
        test_seed=st.integers(0, 9),
    )
    | st.builds(KFold, num_folds=SMALL, fold=SMALL, seed=st.integers(0, 9), num_validation=SMALL)
    | st.builds(AllLabelled, num_validation=SMALL, seed=st.integers(0, 9))
    | st.builds(
        FewShotFolds,
        num_train=SMALL,
        num_test=st.none() | SMALL,
        balance=st.sampled_from(["natural", "equal"]),
        seed=st.integers(0, 9),
        test_seed=st.integers(0, 9),
        num_folds=SMALL,
        fold=SMALL,
    )
)


def _split(_: Path, __: Runs) -> Use:
    def rows(labels: str, prefix: str) -> Columns:
        ids = [f"{prefix}{at}" for at in range(len(labels))]
        return Columns(by_name={"id": ids, "label": list(labels)})

    def use(drawn: tuple[Splitter, str, str | None]) -> None:
        splitter, labels, held_out = drawn
        pool = Pool(
            labelled=rows(labels, "l"),
            held_out=None if held_out is None else rows(held_out, "h"),
            unlabelled=rows("", "u"),
            fingerprint="0",
        )
        parts = splitter.split(pool, "abc")
        ids = [row for part in (parts.train, parts.validation, parts.test) for row in part["id"]]
        assert len(ids) == len(set(ids)), "a row is in two parts"
        assert len(parts.train) > 0, "nothing trains"

    return use


def _settings(_: Path, __: Runs) -> Use:
    return expect_in_range


# -- tables

TABLES = st.tuples(
    st.sampled_from(["csv", "tsv", "json", "jsonl", "parquet"]),
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            ["text", "label", ",", ";", "\t", "\n", "\r\n", '"', "{", "}", "[", "]", ":", "\\ud83d"]
        )
        | st.text(max_size=4),
        max_size=40,
    ).map(lambda pieces: "".join(pieces).encode(errors="surrogatepass")),
    st.sampled_from(["utf-8", "utf-16", "cp1252", "ascii", "idna", "rot13", "no-such"]),
    st.none() | st.sampled_from(["comma", "tab", ";", "", "ab", '"', "\n"]),
)


def _table(folder: Path, _: Runs) -> Use:
    def use(drawn: tuple[str, bytes, str, str | None]) -> None:
        suffix, content, encoding, separator = drawn
        path = folder / f"table.{suffix}"
        path.write_bytes(content)
        with open_table(str(path), encoding=encoding, separator=separator) as reader:
            for row in reader:
                assert row.problem is None or not row.values, "a bad row has values"

    return use


CELLS = st.sampled_from(
    ["good", "bad", "0", "1", "", " good", "${x}", "???", "nan", "two words more", "é\u2028"]
)
TASKS = st.tuples(
    st.lists(st.sampled_from(["text", "label", "id", "{t}", "[soft:3]", "a b"]), min_size=1, max_size=4),
    st.lists(st.lists(CELLS | st.text(max_size=5), min_size=1, max_size=4), max_size=8),
)


def _assumed(folder: Path, _: Runs) -> Use:
    path = folder / "rows.jsonl"

    def use(drawn: tuple[list[str], list[list[str]]]) -> None:
        columns, rows = drawn
        objects = [dict(zip(columns, row, strict=False)) for row in rows]
        path.write_bytes("".join(json.dumps(row) + "\n" for row in objects).encode(errors="surrogatepass"))
        table = read_table(path)
        classes = classes_of(table, label_column="label")
        template = template_of(table, ["label"], id_column=None)
        words = {name: name for name in classes}
        task = Task(name="t", template=template, classes=tuple(classes), verbalizer=words, end_token=False)
        examples = pick_examples(table, task, id_column=None, label_column="label")
        labelled = [example for example in examples if example.label]
        make_pool(task, labelled=labelled, held_out=None, unlabelled=[], where="rows")

    return use


# -- received runs and exports


def _copied(folder: Path, runs: Runs) -> Path:
    run = folder / "run"
    run.mkdir()
    for file in runs("prompt_tuning").iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    return run


def _predict(run: Path) -> Callable[[], object]:
    return lambda: load(run).predict(TEXTS[0])


def _record_values(folder: Path, runs: Runs) -> Use:
    run = _copied(folder, runs)
    record = json.loads((run / RECORD).read_text())
    change = with_file(run / RECORD, _predict(run))

    def use(drawn: list[tuple[int, Any]]) -> None:
        changed: Any = record
        for where, value in drawn:
            here = list(places(changed))
            changed = replaced(changed, here[where % len(here)], value)
        change(json.dumps(changed).encode())

    return use


def _record_bytes(folder: Path, runs: Runs) -> Use:
    run = _copied(folder, runs)
    return damaging(run / RECORD, _predict(run))


def _one_of_a_sweep(folder: Path, runs: Runs) -> Use:
    """One damaged record costs none of the others."""
    run = _copied(folder, runs)
    good = folder / "good"
    good.mkdir()
    (good / RECORD).write_bytes((run / RECORD).read_bytes())

    def use() -> None:
        listing = list_records(folder)
        assert good in listing.folders
        if listing.problems:
            raise listing.problems[0]

    return damaging(run / RECORD, use)


def _prompt_bytes(folder: Path, runs: Runs) -> Use:
    run = _copied(folder, runs)
    return damaging(run / PROMPT, _predict(run))


ABOUT = {"backbone": "tiny", "layout": "[soft:3]{input}"}
SHAPES = st.lists(st.integers(0, 3), max_size=6)
DTYPES = st.sampled_from(
    [torch.float32, torch.int64, torch.bfloat16, torch.bool, torch.float16, torch.complex64]
)
TENSORS = st.tuples(
    st.dictionaries(
        st.sampled_from(["embeddings_TPD", "keys_TLHPK", "values_TLHPK", "lengths_T", "factor.x", "x"]),
        st.tuples(SHAPES | st.just([1, TOKENS, HIDDEN]), DTYPES),
        max_size=4,
    ),
    st.dictionaries(st.sampled_from(["backbone", "layout", "vote"]), st.text(max_size=9)),
)


def _prompt_header(folder: Path, runs: Runs) -> Use:
    run = _copied(folder, runs)

    def both() -> None:
        load(run).predict(TEXTS[0])
        load_bank(run / PROMPT)

    change = with_file(run / PROMPT, both)

    def use(drawn: tuple[dict[str, tuple[list[int], torch.dtype]], dict[str, str]]) -> None:
        tensors, metadata = drawn
        made = {name: torch.ones(shape, dtype=dtype) for name, (shape, dtype) in tensors.items()}
        change(save(made, metadata={**ABOUT, **metadata}))

    return use


# -- adapters of PEFT


def _bank_of(folder: Path) -> None:
    bank = open_adapter(folder).bank()
    assert all(tensor.isfinite().all() for tensor in bank.tensors().values()), "NaN was accepted"
    assert sum(tensor.numel() for tensor in bank.tensors().values()) > 0, "an empty prompt was accepted"


def _adapter_config(folder: Path, _: Runs) -> Use:
    adapter_in(folder)
    config = json.loads((folder / CONFIG).read_text())
    change = with_file(folder / CONFIG, lambda: _bank_of(folder))
    return lambda more: change(json.dumps({**config, **copy.deepcopy(more)}).encode())


KEYS = ["peft_type", "token_dim", "num_layers", "num_attention_heads", "num_tasks", "num_ranks", "more"]
CONFIGS = st.dictionaries(
    st.sampled_from(KEYS),
    JSON | st.sampled_from(["PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING"]) | st.integers(1, 64),
)
NAMES_OF_TENSORS = st.sampled_from(
    [
        "prompt_embeddings",
        "base_model.prompt_embeddings",
        "prefix_task_cols",
        "prefix_task_rows",
        "prompt_encoder.default.embedding.weight",
        "prompt_encoder.default.mlp_head.0.weight",
        "prompt_encoder.default.mlp_head.0.bias",
        "prompt_encoder.default.lstm_head.weight_ih_l0",
        "x",
    ]
)
NUMBERS = st.sampled_from([0.0, 1.0, float("nan"), float("inf"), -1e38])
SIZES = st.lists(st.integers(0, 2**34), min_size=1, max_size=4)
HOSTILE = st.tuples(
    st.dictionaries(
        NAMES_OF_TENSORS, st.tuples(SHAPES | st.just([TOKENS, HIDDEN]), DTYPES, NUMBERS), max_size=4
    ),
    st.none() | SIZES,
)
"""Tensors by name (shape, type, number), or the shape that a file of no size declares."""


def _adapter_tensors(folder: Path, _: Runs) -> Use:
    adapter_in(folder)
    weights = folder / WEIGHTS

    def use(drawn: tuple[dict[str, tuple[list[int], torch.dtype, float]], list[int] | None]) -> None:
        tensors, declared = drawn
        if declared is None:
            made = {
                name: torch.full(shape, number).to(dtype) for name, (shape, dtype, number) in tensors.items()
            }
            weights.write_bytes(save(made))
        else:
            sparse(weights, {"prompt_embeddings": declared})
        _bank_of(folder)

    return use


def _adapter_bytes(folder: Path, _: Runs) -> Use:
    adapter_in(folder)
    return damaging(folder / WEIGHTS, lambda: _bank_of(folder))


def _pickle_bytes(folder: Path, _: Runs) -> Use:
    adapter_in(folder)
    (folder / WEIGHTS).unlink()
    torch.save({"prompt_embeddings": torch.zeros(TOKENS, HIDDEN)}, folder / PICKLED_WEIGHTS)
    return damaging(folder / PICKLED_WEIGHTS, lambda: _bank_of(folder))


# -- what an interrupted run or sweep left


def _checkpoint(folder: Path, _: Runs) -> Use:
    path, run_ids = folder / "last.ckpt", ["prompt_tuning-0123456789ab"]
    state = {"members": {"run_ids": run_ids}, "callbacks": {}, "global_step": 3, "x": torch.ones(99)}
    SealedCheckpoints().save_checkpoint(state, path)
    original = path.read_bytes()

    def use(damage: list[tuple[int, int, bytes]]) -> None:
        content = damaged(original, damage)
        path.write_bytes(content)
        if resumable(path, run_ids) is not None:
            assert content == original, "a damaged state was accepted"
            return
        assert not path.exists(), "a damaged state was not set aside"
        raise RunError("set aside")

    return use


def _encoded_rows(folder: Path, _: Runs) -> Use:
    path = folder / "0.rows"
    rows = [EncodedRow(ids=[1, -1, 5], was_cut=False), EncodedRow(ids=[7], was_cut=True)]
    write_encoded(path, rows)
    original = path.read_bytes()

    def use(damage: list[tuple[int, int, bytes]]) -> None:
        path.write_bytes(damaged(original, damage))
        found = read_encoded(path)
        assert found in (None, rows), "damaged rows were accepted"
        if found is None:
            raise RunError("set aside")

    return use


def _curve(folder: Path, runs: Runs) -> Use:
    """A damaged curve is refused by its reader; writer, live view and report go on without it."""
    run = _copied(folder, runs)
    logger = CurveLogger(save_dir=str(run))
    for step in range(3):
        logger.log_metrics({"train/loss": step / 4, "epoch": 0}, step=step)
    record = RunRecord.from_json((run / RECORD).read_bytes())
    record.metrics["test"] = {"macro_f1": 0.5}

    def use() -> None:
        problem = None
        try:
            read_curve(run / CURVE)
        except SoftcueError as error:
            problem = error
        last_point(run / CURVE)
        load_runs([Source(record=record, folder=run)], part="test", details=True)
        CurveLogger(save_dir=str(run)).log_metrics({"train/loss": 0.5, "epoch": 0}, step=3)
        assert len(read_curve(run / CURVE)) > 0
        if problem:
            raise problem

    return damaging(run / CURVE, use)


def _plan(folder: Path, _: Runs) -> Use:
    path = folder / "sweep.json"
    write_plan(path, Plan(jobs=(PlannedJob(label="seed=0", runs=("a-0",)),), command=("-m", "seed=0,1")))
    return damaging(path, lambda: read_plan(path))


KINDS: dict[str, Fuzz] = {
    "templates and layouts": Fuzz(drawn=st.tuples(PIECES, PIECES), prepare=_compose),
    "tasks": Fuzz(drawn=st.tuples(PIECES, NAMES, NAMES), prepare=_task),
    "splits": Fuzz(
        drawn=st.tuples(
            SPLITS, st.text("abc", min_size=1, max_size=30), st.none() | st.text("abc", max_size=9)
        ),
        prepare=_split,
    ),
    "numbers in settings": Fuzz(
        drawn=st.dictionaries(st.sampled_from(sorted(RANGES)), JSON, max_size=4), prepare=_settings
    ),
    "tables": Fuzz(drawn=TABLES, prepare=_table),
    "tasks from tables": Fuzz(drawn=TASKS, prepare=_assumed),
    "values in a record": Fuzz(
        drawn=st.lists(st.tuples(WHERE, JSON), min_size=1, max_size=3), prepare=_record_values
    ),
    "damaged records": Fuzz(drawn=DAMAGE, prepare=_record_bytes),
    "a damaged record among others": Fuzz(drawn=DAMAGE, prepare=_one_of_a_sweep),
    "damaged prompts": Fuzz(drawn=DAMAGE, prepare=_prompt_bytes),
    "tensors of a prompt": Fuzz(drawn=TENSORS, prepare=_prompt_header),
    "configs of an adapter": Fuzz(drawn=CONFIGS, prepare=_adapter_config),
    "tensors of an adapter": Fuzz(drawn=HOSTILE, prepare=_adapter_tensors),
    "damaged adapters": Fuzz(drawn=DAMAGE, prepare=_adapter_bytes),
    "damaged pickles": Fuzz(drawn=DAMAGE, prepare=_pickle_bytes),
    "damaged checkpoints": Fuzz(drawn=DAMAGE, prepare=_checkpoint),
    "damaged caches of encoded rows": Fuzz(drawn=DAMAGE, prepare=_encoded_rows),
    "damaged learning curves": Fuzz(drawn=DAMAGE, prepare=_curve),
    "damaged plans of a sweep": Fuzz(drawn=DAMAGE, prepare=_plan),
}
