"""The papers' own settings: every run composes and binds, and each paper's first steps run on tiny models.

A hub on the loopback serves the models' and the sets' names, with models of the same architecture and a few
rows in the sets' columns, so that the settings stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from experiments.paper_hours import HERE, composed, text
from experiments.tables import Job, Table, read
from softcue.configs.compose import Composer, config_loader
from softcue.execute import train
from softcue.plan import prepare
from softcue.runs.store import RunFolder
from tests.backbone.encoder_decoders import T5
from tests.hub.server import Hub

PAPERS = sorted(path.parent.name for path in HERE.glob("*/paper.yaml"))
WORDS = "? <s> </s> <pad> complaint yes no same different question : the train is late"
ROWS, TEST_ROWS = 520, 6
SENTENCES = [f"the train is late {'yes' if at % 2 else 'no'}" for at in range(ROWS)]
CAUSAL = {"bigscience/bloomz-560m": "bloom", "openai-community/gpt2": "gpt2"}
SEQ2SEQ = ("google/t5-small-lm-adapt", "google/t5-large-lm-adapt", "google-t5/t5-base")
GLUE: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "aps/super_glue/boolq": (("passage", "question"), ("False", "True")),
    "aps/super_glue/rte": (("hypothesis", "premise"), ("entailment", "not_entailment")),
    "aps/super_glue/cb": (("hypothesis", "premise"), ("entailment", "contradiction", "neutral")),
    "aps/super_glue/wic": (("sentence1", "sentence2", "word"), ("False", "True")),
    "nyu-mll/glue/mnli": (("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    "nyu-mll/glue/qnli": (("question", "sentence"), ("entailment", "not_entailment")),
    "nyu-mll/glue/qqp": (("question1", "question2"), ("not_duplicate", "duplicate")),
    "nyu-mll/glue/sst2": (("sentence",), ("negative", "positive")),
    "nyu-mll/glue/mrpc": (("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
}
TEXTS: Mapping[str, Mapping[str, object]] = {
    "GEM/gem/e2e_nlg": {"meaning_representation": SENTENCES, "target": SENTENCES, "references": [[]] * ROWS},
    "EdinburghNLP/xsum/default": {"document": SENTENCES, "summary": SENTENCES},
}
FIRST = {
    "labels": "soft",
    "lester": "start",
    "li_liang": "table_1",
    "mpt": "multitask",
    "p_tuning": "encoders",
    "tutorial_defects": "prompt_tuning",
}
"""The part whose first run trains here; its first model is the smallest."""


def words() -> dict[str, int]:
    """Every word of the rows and labels, numbered."""
    labels = [label for _, names in GLUE.values() for label in names]
    return {word: index for index, word in enumerate(dict.fromkeys([*WORDS.split(), *labels]))}


def columns_of(name: str) -> tuple[dict[str, object], datasets.Features | None]:
    """The columns of a set, and their types where labels have names."""
    if name in TEXTS:
        return dict(TEXTS[name]), None
    texts, labels = GLUE[name]
    kinds = {text: datasets.Value("string") for text in texts}
    features = datasets.Features({**kinds, "label": datasets.ClassLabel(names=list(labels))})
    return {**dict.fromkeys(texts, SENTENCES), "label": [at % len(labels) for at in range(ROWS)]}, features


def model_files(model: PreTrainedModel, folder: Path) -> dict[str, bytes]:
    """What the hub has of a model and its tokenizer."""
    folder.mkdir()
    model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel(words(), unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tiny_causal(family: str) -> PreTrainedModel:
    """A decoder, random, with the context of the papers' rows."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(family, bos_token_id=1, eos_token_id=2, pad_token_id=3, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    assert isinstance(model, PreTrainedModel)
    return model


def tiny_t5() -> PreTrainedModel:
    """T5 1.1, random, with a decoder's start as T5 has it."""
    torch.manual_seed(0)
    sizes = {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "vocab_size": 50}
    config = AutoConfig.for_model("t5", decoder_start_token_id=3, pad_token_id=3, eos_token_id=2, **sizes)
    model = AutoModelForSeq2SeqLM.from_config(config)
    assert isinstance(model, PreTrainedModel)
    return model


@pytest.fixture
def papers_hub(hub: Hub, data_files: dict[str, bytes], tmp_path: Path) -> Hub:
    """The hub with the papers' models and sets."""
    for name in (*GLUE, *TEXTS):
        columns, features = columns_of(name)
        rows = datasets.Dataset.from_dict(columns, features=features)
        owner, repo, subset = name.split("/")
        files = hub.files.setdefault(f"datasets/{owner}/{repo}", {})
        for split in ("train", "test", "validation", "validation_matched"):
            path = tmp_path / split
            rows.select(range(ROWS if split == "train" else TEST_ROWS)).to_parquet(str(path))
            files[f"{subset}/{split}/0000.parquet"] = path.read_bytes()
    hub.files["datasets/ought/raft"] = data_files
    for at, (repo, family) in enumerate(CAUSAL.items()):
        hub.files[repo] = model_files(tiny_causal(family), tmp_path / f"causal{at}")
    hub.files["openai-community/gpt2-medium"] = hub.files["openai-community/gpt2"]
    t5 = model_files(tiny_t5(), tmp_path / "t5")
    hub.files.update(dict.fromkeys(SEQ2SEQ, t5))
    return hub


def bound(table: Table, job: Job, composer: Composer, tmp_path: Path, *overrides: str) -> list[RunFolder]:
    """The run folders of a job's settings, with a test's own beside them."""
    own = (*overrides, f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}")
    config = composed(table, Job(**{**vars(job), "overrides": (*job.overrides, *own)}), composer)
    return train(config) if overrides else [run.folder for run in prepare(config)]


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_first_steps_run(papers_hub: Hub, name: str, tmp_path: Path) -> None:
    table, composer = read(name, "paper.yaml"), Composer(config_loader())
    job = next(job for job in table.jobs if job.part == FIRST[name])
    fast = ("debug=fast", "data.batch_size=8", "trainer.max_steps=2")
    folders = bound(table, job, composer, tmp_path, *fast)
    assert folders
    for folder in folders:
        record = folder.record()
        assert record is not None
        assert record.status == "complete"
        assert record.training is not None
        assert record.training.steps == 2


@pytest.mark.slow  # composes 340 runs and reads the rows of each
@pytest.mark.parametrize("name", PAPERS)
def test_every_run_of_a_paper_binds(papers_hub: Hub, name: str, tmp_path: Path) -> None:
    table, composer = read(name, "paper.yaml"), Composer(config_loader())
    found = {
        str(folder.path)
        for job in table.jobs
        if not job.sources(table.parts)
        for folder in bound(table, job, composer, tmp_path)
    }
    assert len(found) >= sum(not job.sources(table.parts) for job in table.jobs)


@pytest.mark.parametrize("name", PAPERS)
def test_every_run_of_a_paper_composes_and_its_hours_are_those_written(name: str) -> None:
    written = (HERE / name / "paper.md").read_text()
    assert written == text(name, Composer(config_loader())), "run `make experiments`"
    assert f"<!-- begin experiments/{name}/paper.md -->\n{written}" in (HERE / name / "README.md").read_text()
