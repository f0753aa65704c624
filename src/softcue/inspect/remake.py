"""What a run trained from and on, made again from its record: the prompt's start and the task's rows.

As in `softcue.received`, the names in the record are compared with the tables below, never imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import signature

import torch
from torch import Generator, Tensor

from softcue.contracts import PromptBank, SoftPrompt, TrainingRows
from softcue.data.columns import Columns
from softcue.data.demonstrations import demonstration
from softcue.data.hub_sets import HubSet
from softcue.data.next_sentence import NextSentence
from softcue.data.pool import Source, load_pool
from softcue.data.sources import AirlineComplaints, AirlineSummaries, Raft, Table, TweetTopic
from softcue.data.splits import AllLabelled, FewShot, FewShotFolds, KFold, Splitter
from softcue.errors import RunError
from softcue.formats.plain import Node
from softcue.prompts.attempt import AttentionPrompt
from softcue.prompts.cartridge import Cartridge
from softcue.prompts.cpt import ContextPrompt
from softcue.prompts.dept import DecomposedPrompt
from softcue.prompts.gated_prefix import GatedPrefix
from softcue.prompts.idpg import BottleneckPrompt
from softcue.prompts.initialisers import (
    ClassLabels,
    Initialiser,
    RandomNormal,
    RandomUniform,
    SampledVocabulary,
    Text,
)
from softcue.prompts.late import LatePrompt
from softcue.prompts.late_prefix import LatePrefix
from softcue.prompts.low_rank import LowRankPrompt
from softcue.prompts.multitask import MultitaskPrompt, MultitaskTarget
from softcue.prompts.nearest_initialiser import Nearest
from softcue.prompts.p_tuning import PTuningLSTM, PTuningMLP
from softcue.prompts.place import place
from softcue.prompts.prefix_tuning import PrefixTuning, ProjectedPrefixTuning
from softcue.prompts.prompt_tuning import PromptTuning
from softcue.prompts.random_subspace import RandomSubspace
from softcue.prompts.recycled_initialiser import Recycled
from softcue.prompts.residual import ResidualPrompt
from softcue.prompts.saved_initialiser import Saved
from softcue.prompts.smop import RoutedPrompt
from softcue.prompts.superposition import SuperposedPrompt
from softcue.prompts.xprompt import XPrompt
from softcue.runs.store import RECORD
from softcue.trained import TrainedPrompt

METHODS: Mapping[str, Callable[..., SoftPrompt]] = {
    "softcue.prompts.attempt.AttentionPrompt": AttentionPrompt,
    "softcue.prompts.cartridge.Cartridge": Cartridge,
    "softcue.prompts.cpt.ContextPrompt": ContextPrompt,
    "softcue.prompts.dept.DecomposedPrompt": DecomposedPrompt,
    "softcue.prompts.gated_prefix.GatedPrefix": GatedPrefix,
    "softcue.prompts.idpg.BottleneckPrompt": BottleneckPrompt,
    "softcue.prompts.late.LatePrompt": LatePrompt,
    "softcue.prompts.late_prefix.LatePrefix": LatePrefix,
    "softcue.prompts.low_rank.LowRankPrompt": LowRankPrompt,
    "softcue.prompts.multitask.MultitaskPrompt": MultitaskPrompt,
    "softcue.prompts.multitask.MultitaskTarget": MultitaskTarget,
    "softcue.prompts.p_tuning.PTuningLSTM": PTuningLSTM,
    "softcue.prompts.p_tuning.PTuningMLP": PTuningMLP,
    "softcue.prompts.prefix_tuning.PrefixTuning": PrefixTuning,
    "softcue.prompts.prefix_tuning.ProjectedPrefixTuning": ProjectedPrefixTuning,
    "softcue.prompts.prompt_tuning.PromptTuning": PromptTuning,
    "softcue.prompts.random_subspace.RandomSubspace": RandomSubspace,
    "softcue.prompts.residual.ResidualPrompt": ResidualPrompt,
    "softcue.prompts.smop.RoutedPrompt": RoutedPrompt,
    "softcue.prompts.superposition.SuperposedPrompt": SuperposedPrompt,
    "softcue.prompts.xprompt.XPrompt": XPrompt,
}
INITIALISERS: Mapping[str, Callable[..., Initialiser]] = {
    "softcue.prompts.initialisers.ClassLabels": ClassLabels,
    "softcue.prompts.initialisers.RandomNormal": RandomNormal,
    "softcue.prompts.initialisers.RandomUniform": RandomUniform,
    "softcue.prompts.initialisers.SampledVocabulary": SampledVocabulary,
    "softcue.prompts.initialisers.Text": Text,
    "softcue.prompts.nearest_initialiser.Nearest": Nearest,
    "softcue.prompts.recycled_initialiser.Recycled": Recycled,
    "softcue.prompts.saved_initialiser.Saved": Saved,
}
SOURCES: Mapping[str, Callable[..., Source]] = {
    "softcue.data.hub_sets.HubSet": HubSet,
    "softcue.data.next_sentence.NextSentence": NextSentence,
    "softcue.data.sources.AirlineComplaints": AirlineComplaints,
    "softcue.data.sources.AirlineSummaries": AirlineSummaries,
    "softcue.data.sources.Raft": Raft,
    "softcue.data.sources.Table": Table,
    "softcue.data.sources.TweetTopic": TweetTopic,
}
SPLITS: Mapping[str, Callable[..., Splitter]] = {
    "softcue.data.splits.AllLabelled": AllLabelled,
    "softcue.data.splits.FewShot": FewShot,
    "softcue.data.splits.FewShotFolds": FewShotFolds,
    "softcue.data.splits.KFold": KFold,
}

MAX_ENCODER_NUMBERS = 2**27
"""A larger prompt encoder is not built: its sizes are the record's word alone."""


@torch.no_grad()
def start_of(prompt: TrainedPrompt) -> PromptBank:
    """The one prompt as it was before training, from the run's settings and seed.

    Raises:
        RunError, ConfigError: a method or initialiser that is none of ours, or one that cannot be built.
    """
    node, spec = _settings(prompt).child("prompt").child("method"), prompt.lm.spec
    given = ("spec", "num_virtual_tokens", "generator", "initialiser", "rows")
    method = node.part(METHODS, given=given)
    size = math.prod(value for value in method.keywords.values() if type(value) is int)
    # A random subspace has all numbers of the prompt for each of its own.
    tokens = prompt.template.num_virtual_tokens if "dimension" in method.keywords else 1
    if size * max(size, tokens * spec.hidden_size) > MAX_ENCODER_NUMBERS:
        raise RunError(f"{node.at} has an encoder of more than {MAX_ENCODER_NUMBERS:,} numbers.")
    with _unfit(node.at):
        asked = signature(method.func).parameters
        further: dict[str, Callable[[], object]] = {
            "rows": partial(_demonstrations, prompt),
            "initialiser": partial(_initialiser, node),
        }
        made = place(
            partial(
                method,
                generator=Generator().manual_seed(prompt.record.seed),
                **{name: make() for name, make in further.items() if name in asked},
            ),
            spec=spec,
            num_virtual_tokens=prompt.template.num_virtual_tokens,
            submodules=None if prompt.bank.decoder_embeddings_TPD is None else 2,
            attentions=prompt.bank.attentions,
        )
        bank: PromptBank = made.cpu().eval()()
        start = bank.detach().to(torch.device("cpu"))
        return start.member(prompt.parts.position) if start.num_prompts > 1 else start


def _initialiser(method: Node) -> Initialiser:
    return method.child("initialiser").part(INITIALISERS)()


def _demonstrations(prompt: TrainedPrompt) -> TrainingRows:
    table, _ = training_rows(prompt)
    encoder, classes = prompt.encoder, prompt.task.classes
    labels = [encoder.choices[classes.index(name)] for name in table["label"]]
    pairs = zip(table.rows(), labels, strict=True)
    return TrainingRows(
        demonstrations=tuple(demonstration(encoder, row, label) for row, label in pairs),
        gradients=partial(_no_gradients, prompt),
    )


def _no_gradients(prompt: TrainedPrompt, _: Tensor) -> Tensor:
    raise RunError(f"{prompt.record.method} starts from gradients of the training rows, which are not kept.")


def training_rows(prompt: TrainedPrompt) -> tuple[Columns, str]:
    """The task's training rows, read and split as they were for training, and their fingerprint.

    Raises:
        RunError: a source or split that is none of ours, or that cannot be used.
        DataError: the rows are no longer there.
    """
    settings = _settings(prompt)
    data = settings.child("data")
    name = prompt.parts.tasks[prompt.parts.position]
    own = data.child("tasks").child(name) if "tasks" in data.values else data
    source, split = own.child("source").part(SOURCES), settings.child("split").part(SPLITS)
    with _unfit(own.at):
        pool = load_pool(source(), prompt.task)
        return split().split(pool, prompt.task.classes).train, pool.fingerprint


def _settings(prompt: TrainedPrompt) -> Node:
    return Node(values=prompt.record.settings, at=f"{prompt.folder / RECORD} settings")


@contextmanager
def _unfit(at: str) -> Iterator[None]:
    """Name the place of values that have the right types and still cannot be used."""
    try:
        yield
    except (ArithmeticError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise RunError(f"{at} cannot be used ({type(error).__name__}: {error}).") from error
