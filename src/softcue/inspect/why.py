"""Why does a prompt not learn? Checks of a run, each with what was measured and the setting to try."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from softcue.contracts import Batch, Choices, PromptBank
from softcue.data.collate import Collator, Example
from softcue.data.columns import Columns
from softcue.data.task import REFERENCES
from softcue.errors import SoftcueError
from softcue.inspect.measures import norms, quantiles
from softcue.inspect.reading import member, training_rows_of
from softcue.inspect.remake import start_of
from softcue.inspect.text_attention import TextView, watch_text
from softcue.runs.symptoms import Symptom, of_files, rate_at_edge, shared_label_tokens
from softcue.trained import TrainedPrompt
from softcue.training.objectives import LanguageModelLoss

FAR = 3.0
"""How many times a norm may lie outside of what is usual."""
LEAST_SENSITIVITY = 1e-3
LEAST_ATTENTION = 0.01
WAYS_OUT_OF_NORMS = {
    True: "prompt/initialiser=text",
    False: "a lower prompt.learning_rate, or optimizer.weight_decay=0.01",
}
"""By whether the prompt's norms are small."""


def why(trained: TrainedPrompt, *, prompt: int, num_rows: int) -> list[Symptom]:
    """Every check that the run allows, with its first training rows.

    Raises:
        RunError, ConfigError, DataError: as `softcue.inspect.reading.read`.
    """
    bank = member(trained, prompt)
    in_row = trained.lm.in_row(bank)
    rows, _ = training_rows_of(trained)
    rows = rows.select(range(min(num_rows, len(rows))))
    ids = [tuple(trained.encoder.encode_row(row).ids) for row in rows.rows()]
    view = watch_text(trained.lm, in_row, ids)
    own, _ = trained.lm.own_prompts(in_row, ids)
    labels = [] if trained.writes_texts else [_labels(trained)]
    measured = [
        _norms(trained, own, view),
        _gradients(trained, bank, rows),
        attention(view),
    ]
    edge = rate_at_edge(trained.folder, trained.record)
    found = [*of_files(trained.folder, trained.record), edge, *labels, *measured]
    return [symptom for symptom in found if symptom is not None]


def _labels(trained: TrainedPrompt) -> Symptom:
    return shared_label_tokens(trained.encoder.choices, trained.task.label_words)


def _norms(trained: TrainedPrompt, bank: PromptBank, view: TextView) -> Symptom | None:
    """The prompt's norms beside those of what it stands among: words, or keys of text; None among states."""
    if bank.embeddings_TPD is not None and bank.first_layer:
        return None
    if bank.embeddings_TPD is not None:
        # Behind the prompt's own there may be rows' words.
        own = bank.embeddings_TPD[:, : view.attention_LP.shape[1]].flatten(0, 1).norm(dim=1)
        usual, what = norms(trained.lm.spec.embedding_VD.cpu()), "words'"
    else:
        assert bank.keys_TLHPK is not None, "a prompt has one of the two"
        # Layers differ, so each is measured in medians of its own text.
        unit_L1 = view.key_norm_LN.median(dim=1, keepdim=True).values
        own_LP = bank.keys_TLHPK[0].transpose(1, 2).flatten(2).norm(dim=2).cpu()
        own, usual, what = (
            (own_LP / unit_L1).flatten(),
            (view.key_norm_LN / unit_L1).flatten(),
            "keys of text's",
        )
    middle, (low, _, high) = float(own.median()), quantiles(usual).tolist()
    is_large, is_small = middle > FAR * high, middle < low / FAR
    return Symptom(
        name="norm",
        measured=f"{middle:.3g} at the median; 5 % to 95 % of {what}: {low:.3g} to {high:.3g}",
        is_found=is_large or is_small,
        way_out=WAYS_OUT_OF_NORMS[is_small],
    )


def _gradients(trained: TrainedPrompt, bank: PromptBank, rows: Columns) -> Symptom:
    """How much the training loss depends on the prompt, now and at its start: |gradient| |prompt| / loss."""
    batch = _labelled(trained, rows)
    now = _sensitivity(trained, bank, batch)
    try:
        start = f", {_sensitivity(trained, start_of(trained), batch):.2g} at the start"
    except SoftcueError:
        start = ""  # it may have begun from what is no longer there
    return Symptom(
        name="gradient",
        measured=f"|gradient| × |prompt| / loss: {now:.2g}{start}",
        is_found=now < LEAST_SENSITIVITY,
        way_out="another prompt/initialiser, or prompt.layout with the virtual tokens nearer to the label",
    )


def _sensitivity(trained: TrainedPrompt, bank: PromptBank, batch: Batch) -> float:
    bank = replace(bank.to(trained.lm.device).detach(), lengths_T=None)
    numbers = list(bank.tensors().values())
    for tensor in numbers:
        tensor.requires_grad_()
    loss = LanguageModelLoss()(trained.lm, bank, batch, trained.parts.scoring).mean
    gradients = torch.autograd.grad(loss, numbers)
    return _length(gradients) * _length(numbers) / float(loss.detach())


def _length(tensors: Sequence[Tensor]) -> float:
    return float(torch.cat([tensor.detach().flatten() for tensor in tensors]).norm())


def _labelled(trained: TrainedPrompt, rows: Columns) -> Batch:
    """The rows with their labels, or the first text that may follow each."""
    encoder, classes = trained.encoder, trained.task.classes
    pairs: Sequence[tuple[Choices, int]]
    if encoder.target is None:
        pairs = [(encoder.choices, classes.index(label)) for label in rows["label"]]
    else:
        texts = [json.loads(references)[0] for references in rows[REFERENCES]]
        pairs = [((encoder.target.encode(text).ids,), 0) for text in texts]
    examples = [
        Example(ids=encoder.encode_row(row).ids, choices=choices, target=target, prompt=0, row=at)
        for at, (row, (choices, target)) in enumerate(zip(rows.rows(), pairs, strict=True))
    ]
    collate = Collator(width="longest" if trained.lm.takes_padded_rows else None)
    return collate(examples).to(trained.lm.device)


def attention(view: TextView) -> Symptom | None:
    """How much of its attention the text behind the prompt gives it; None if no text is behind it."""
    share_LP: Tensor = view.attention_LP
    if share_LP.isnan().all():
        return None
    share = float(share_LP.nan_to_num().sum(dim=1).mean())
    return Symptom(
        name="attention",
        measured=f"{share:.1%} of the text's, over all virtual tokens, the mean over layers",
        is_found=share < LEAST_ATTENTION,
        way_out='more virtual tokens, a smaller data.max_length, or prompt.layout="{input}[soft:20] :"',
    )
