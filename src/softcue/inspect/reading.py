"""A trained prompt in numbers: what tables and pictures are made from.

L layers, P virtual tokens, D hidden size, W a layer's keys of one position, Q quantiles of norms.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from softcue.contracts import PromptBank
from softcue.data.columns import Columns
from softcue.errors import ConfigError, RunError, SoftcueError
from softcue.inspect.measures import Drift, drift, nearest, norms, percentiles, quantiles, similarity
from softcue.inspect.remake import start_of, training_rows
from softcue.inspect.text_attention import TextView, watch_text
from softcue.trained import TrainedPrompt

Notes = tuple[str, ...]
Vectors = tuple[Tensor, ...]
"""A prompt's numbers: see `_vectors`."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A vocabulary token near a virtual token."""

    text: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Virtual tokens that are embeddings, compared with the vocabulary."""

    nearest: tuple[tuple[Neighbour, ...], ...]
    norm_P: Tensor
    percentile_P: Tensor
    vocabulary_Q: Tensor
    drift_P: Drift | None


@dataclass(frozen=True, kw_only=True)
class InLayers:
    """A prefix's keys, or its values, compared with those of the text behind it; heads concatenated."""

    norm_LP: Tensor
    text_LQ: Tensor
    drift_LP: Drift | None
    drift_P: Drift | None
    """Over all layers together."""


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Keys and values in front of the row, in every layer."""

    keys: InLayers
    values: InLayers


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One prompt: its numbers, its drift from the start of training, and the attention it gets from text."""

    title: str
    notes: tuple[str, ...]
    num_rows: int
    """Training rows whose attention was measured."""
    similarity_PP: Tensor
    """Cosines of the virtual tokens with each other; of a prefix, over its keys in all layers."""
    attention_LP: Tensor
    """See `TextView`."""
    own: Embeddings | Prefix


def read(trained: TrainedPrompt, *, prompt: int, num_nearest: int, num_rows: int) -> Reading:
    """Read one prompt of a bank, with the run's own first training rows as its text.

    Raises:
        RunError: the method has no virtual tokens, or they stand among states and not among words, or the
            training rows are of an unknown kind.
        ConfigError: the bank has no such prompt.
        DataError: the training rows are no longer there.
    """
    bank = trained.lm.in_row(member(trained, prompt))
    if bank.first_layer:
        raise RunError(
            f"{trained.folder} holds a prompt that enters at layer {bank.first_layer}, and these tables "
            "compare prompts with words and over all layers; why=true checks it."
        )
    if bank.row_rule:
        raise RunError(
            f"{trained.folder} is a run of {trained.record.method}, whose prompt differs from row to "
            "row, and these tables are of one for all rows; why=true checks it."
        )
    start, start_notes = _start(trained)
    train, data_notes = training_rows_of(trained)
    texts = train.select(range(min(num_rows, len(train))))
    view = watch_text(trained.lm, bank, [trained.encoder.encode_row(row).ids for row in texts.rows()])
    now, before = _vectors(bank), None if start is None else _vectors(start)
    own = (
        _prefix(now, before, view)
        if bank.embeddings_TPD is None
        else _embeddings(trained, now, before, num_nearest=num_nearest)
    )
    return Reading(
        title=_title(trained, prompt),
        notes=start_notes + data_notes,
        num_rows=len(texts),
        similarity_PP=similarity(_whole(now[0]) if isinstance(own, Prefix) else now[0]),
        attention_LP=view.attention_LP,
        own=own,
    )


def member(trained: TrainedPrompt, prompt: int) -> PromptBank:
    """One prompt of a bank; RunError if the method has none, ConfigError if there is no such prompt."""
    if not trained.bank.tensors():
        raise RunError(
            f"{trained.folder} is a run of {trained.record.method}, which has no virtual tokens to "
            "inspect; give the run of a soft prompt."
        )
    count = trained.bank.num_prompts
    if prompt not in range(count):
        raise ConfigError(
            f"prompt is {prompt}; {trained.folder} holds {count}: choose from 0 to {count - 1}."
        )
    return trained.bank.member(prompt)


def _start(trained: TrainedPrompt) -> tuple[PromptBank | None, Notes]:
    """Where training began, if it can be made again."""
    if trained.record.training is None:
        return None, ("This run trained nothing: for drift inspect the run that trained the prompt.",)
    try:
        start = start_of(trained)
    except SoftcueError as error:
        # It may have begun from another run, whose folder is gone; the rest can be read without it.
        return None, (f"No drift, as the start cannot be made again: {error}",)
    if {name: t.shape for name, t in start.tensors().items()} != {
        name: t.shape for name, t in trained.bank.member(0).tensors().items()
    }:
        return None, ("No drift, as the settings' start has other sizes than the prompt.",)
    return trained.lm.in_row(start), ()


def training_rows_of(trained: TrainedPrompt) -> tuple[Columns, Notes]:
    """The run's own training rows, and a note if they have changed since."""
    rows, fingerprint = training_rows(trained)
    # The fingerprint of a run over several tasks is that of all their rows.
    if len(trained.parts.tasks) > 1 or fingerprint == trained.record.data_fingerprint:
        return rows, ()
    return rows, ("The task's rows have changed since training: attention is that of today's rows.",)


def _vectors(bank: PromptBank) -> Vectors:
    """The only prompt's embeddings [P, D]; or its keys and its values, heads side by side: [L, P, W]."""
    if bank.embeddings_TPD is not None:
        return (bank.embeddings_TPD[0],)
    both = (bank.keys_TLHPK, bank.values_TLHPK)
    return tuple(one_TLHPK[0].transpose(1, 2).flatten(2) for one_TLHPK in both if one_TLHPK is not None)


def _embeddings(
    trained: TrainedPrompt, now: Vectors, before: Vectors | None, *, num_nearest: int
) -> Embeddings:
    lm, (vectors_PD,) = trained.lm, now
    embedding_VD = lm.spec.embedding_VD.cpu()
    norm_V, norm_P = norms(embedding_VD), vectors_PD.norm(dim=1)
    ids, cosines = (t.tolist() for t in nearest(vectors_PD, embedding_VD, count=num_nearest))
    return Embeddings(
        nearest=tuple(
            tuple(
                Neighbour(text=str(lm.tokenizer.decode([token])), cosine=cosine)
                for token, cosine in zip(ids_N, cosines_N, strict=True)
            )
            for ids_N, cosines_N in zip(ids, cosines, strict=True)
        ),
        norm_P=norm_P,
        percentile_P=percentiles(norm_P, norm_V),
        vocabulary_Q=quantiles(norm_V),
        drift_P=None if before is None else drift(vectors_PD, before[0]),
    )


def _prefix(now: Vectors, before: Vectors | None, view: TextView) -> Prefix:
    keys_LPW, values_LPW = now
    first_keys_LPW, first_values_LPW = before or (None, None)
    return Prefix(
        keys=_in_layers(keys_LPW, first_keys_LPW, view.key_norm_LN),
        values=_in_layers(values_LPW, first_values_LPW, view.value_norm_LN),
    )


def _in_layers(now_LPW: Tensor, before_LPW: Tensor | None, text_norm_LN: Tensor) -> InLayers:
    return InLayers(
        norm_LP=now_LPW.norm(dim=2),
        text_LQ=quantiles(text_norm_LN),
        drift_LP=None if before_LPW is None else drift(now_LPW, before_LPW),
        drift_P=None if before_LPW is None else drift(_whole(now_LPW), _whole(before_LPW)),
    )


def _whole(of_layers_LPW: Tensor) -> Tensor:
    """One vector for each position, its layers side by side: [P, L * W]."""
    return of_layers_LPW.transpose(0, 1).flatten(1)


def _title(trained: TrainedPrompt, prompt: int) -> str:
    record, count = trained.record, trained.bank.num_prompts
    names = [record.method, trained.task.name, str(record.backbone), f"seed {record.seed}"]
    return " · ".join([*names, f"prompt {prompt} of {count}"] if count > 1 else names)
