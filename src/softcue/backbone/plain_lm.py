"""The plain engine: the model's own untouched forward on left-padded rows.

It runs every causal language model of transformers, quantised ones included, and is what the stream
engine is compared with. A row that several labels may follow is run once for each label that no
other continues, its label's tokens behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_layers import GradientCheckpointingLayer

from softcue.backbone import families, probes, verify
from softcue.backbone.attention import AttentionHook
from softcue.backbone.base import Backbone, Engine, check_prefixes, describe, embedding_of, prompts_of
from softcue.backbone.scoring import TargetScores, TargetStates, Trie, edge_log_probs, gather_paths, trie_of
from softcue.contracts import Batch, Choices, Ids, PaddedRows, PromptBank
from softcue.errors import BackboneError


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A row of the batch with one path of label tokens behind it."""

    row: int
    prompt: int
    label: Ids


@dataclass(frozen=True, kw_only=True)
class _Outputs:
    """What the model gave at every place that predicts a target token: logits, and states if asked for."""

    logits_MV: Tensor
    hidden_MD: Tensor | None
    tries: list[Trie]


class PlainLM(Backbone):
    """A frozen model that runs as transformers wrote it.

    Where padding would change a row's result (`pads_are_exact` is False), rows of equal length run
    together instead.

    Raises:
        BackboneError: the model is no causal language model, or embeddings cannot stand for its tokens.
    """

    engine: ClassVar[Engine] = "plain"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, name: str) -> None:
        super().__init__(model, tokenizer)
        families.keep_differentiable(model)
        probes.check_runs(model)
        # In fp32, so that what is decided does not depend on how a dtype rounds.
        with nullcontext() if probes.is_quantised(model) else verify.in_dtype(model, torch.float32):
            cache = self._probe()
        # Between keys and values in front and their row, pads would count in a sliding window.
        self._pads_behind_prefix = cache.pads_are_exact and probes.attention_window(model.config) is None
        self.spec = describe(
            model,
            name=name,
            tokenizer=tokenizer,
            embed=self._embed_words,
            key_values=self.key_values,
            num_layers=cache.num_layers,
            num_kv_heads=cache.num_heads,
            head_size=cache.key_size,
            value_size=cache.value_size,
            prefix_refusal=cache.refusal,
        )

    def _probe(self) -> probes.CacheLayout:
        """Find out what the model takes; the keys and values that it keeps."""
        model = self.model
        probes.check_causal(model)
        self._keeps_logits = "logits_to_keep" in probes.arguments_of(model)
        self._embed_words = embedding_of(model, scale=probes.embedding_scale(model))
        probes.check_gradients(model, self._embed_words)
        self._counts_from_0 = probes.counts_positions_from_0(model, self._embed_words)
        self.pads_are_exact = probes.pads_are_exact(model, self._embed_words, positions=self._counts_from_0)
        return probes.cache_layout(model, self._embed_words, positions=self._counts_from_0)

    @property
    def takes_padded_rows(self) -> bool:
        return self.pads_are_exact

    def score(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetScores:
        outputs = self._run(bank, batch, choices)
        edges_E = edge_log_probs(
            outputs.logits_MV, outputs.tries, Tensor.float, vocab_size=outputs.logits_MV.shape[1]
        )
        return gather_paths(edges_E, outputs.tries)

    def states(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetStates:
        outputs = self._run(bank, batch, choices, keep_states=True)
        assert outputs.hidden_MD is not None
        return TargetStates(hidden_MD=outputs.hidden_MD, tries=outputs.tries)

    def logits(self, hidden_MD: Tensor) -> Tensor:
        """As the model's own forward makes them: one token runs, and its head is given these states."""
        with self._head_input(lambda _: hidden_MD[None]):
            output = self.model(inputs_embeds=self._embed_words(torch.zeros(1, 1, dtype=torch.long)))
        return cast(Tensor, output.logits)[0].float()

    def key_values(self, embeddings_PD: Tensor) -> tuple[Tensor, Tensor]:
        embeddings_1PD = embeddings_PD[None].to(self.device, self.dtype)
        with torch.no_grad():
            cache = self.model(inputs_embeds=embeddings_1PD, use_cache=True).past_key_values
        keys, values = zip(*probes.keys_and_values(cache), strict=True)
        return torch.cat(keys).float(), torch.cat(values).float()

    @torch.no_grad()
    def run_with_hook(self, row: Ids, bank: PromptBank, hook: AttentionHook) -> None:
        own = str(self.model.config._attn_implementation)
        self.model.set_attn_implementation("eager")
        try:
            output = self._forward(
                self._embed(torch.tensor([row]), torch.zeros(1, dtype=torch.long), bank),
                torch.ones(1, len(row), dtype=torch.bool),
                torch.zeros(1, dtype=torch.long),
                bank,
                output_attentions=True,
                use_cache=True,
            )
        finally:
            self.model.set_attn_implementation(own)
        layers = probes.keys_and_values(output.past_key_values)
        attentions = output.attentions or ()
        if len(attentions) != len(layers):
            raise BackboneError(f"{type(self.model).__name__} does not show the attention of its layers.")
        for attention, (keys, values) in zip(attentions, layers, strict=True):
            hook(attention.float(), keys.transpose(1, 2).float(), values.transpose(1, 2).float())

    def limit_cache(self, budget_gb: float) -> None:
        """Nothing is kept between steps."""

    def checkpoint_gradients(self) -> None:
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.forward = partial(_recomputed, module.forward)

    def _run(
        self, bank: PromptBank, batch: Batch, choices: Sequence[Choices], *, keep_states: bool = False
    ) -> _Outputs:
        prompts = prompts_of(batch, bank)
        check_prefixes(batch.rows, [bank.prefix_lengths[prompt] for prompt in prompts])
        tries = [trie_of(row_choices) for row_choices in choices]
        runs = [
            _Run(row=row, prompt=prompt, label=leaf)
            for row, (prompt, trie) in enumerate(zip(prompts, tries, strict=True))
            for leaf in trie.leaves
        ]
        place_of: dict[tuple[int, Ids], int] = {}
        logits, states, first = [], [], 0
        for group in self._groups(runs, batch, bank):
            logits_RJV, hidden_RJD = self._run_group(group, batch, bank, keep_states=keep_states)
            width = logits_RJV.shape[1]
            for at, run in enumerate(group):
                for length in range(len(run.label) + 1):
                    place_of.setdefault((run.row, run.label[:length]), first + at * width + length)
            first += len(group) * width
            logits.append(logits_RJV.flatten(0, 1))
            states += [] if hidden_RJD is None else [hidden_RJD.flatten(0, 1)]
        places = [place_of[row, path] for row, trie in enumerate(tries) for path in trie.node_paths]
        place_M = torch.tensor(places, device=self.device)
        return _Outputs(
            logits_MV=torch.cat(logits)[place_M],
            hidden_MD=torch.cat(states)[place_M] if keep_states else None,
            tries=tries,
        )

    def _groups(self, runs: Sequence[_Run], batch: Batch, bank: PromptBank) -> list[list[_Run]]:
        """Runs that go through the model together: all of them, or those of equal lengths."""
        if self._pads(bank):
            return [list(runs)]

        def lengths(run: _Run) -> tuple[int, int, int]:
            return len(batch.rows[run.row]), len(run.label), bank.prefix_lengths[run.prompt]

        return [list(group) for _, group in groupby(sorted(runs, key=lengths), key=lengths)]

    def _pads(self, bank: PromptBank) -> bool:
        """Whether pads may stand in front of these prompts' rows."""
        return self.pads_are_exact and (self._pads_behind_prefix or not any(bank.prefix_lengths))

    def _run_group(
        self, runs: Sequence[_Run], batch: Batch, bank: PromptBank, *, keep_states: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Logits and states of each run, from its row's last token to its label's: [R, J, V], [R, J, D]."""
        rows = PaddedRows.of([batch.rows[run.row] for run in runs])
        if self._pads(bank) and batch.padded is not None:
            rows = batch.padded.select(torch.tensor([run.row for run in runs]))
        # A prefix stands in the cache: its virtual tokens are cut off, or masked behind a shorter row's pads.
        cut = min(bank.prefix_lengths[run.prompt] for run in runs)
        ids_RT, mask_RT = rows.ids_BT[:, cut:], rows.mask_BT[:, cut:]
        if any(bank.prefix_lengths):
            mask_RT = mask_RT & (ids_RT >= 0)
        num_kept = 1 + max(len(run.label) for run in runs)
        labels = [run.label + (0,) * (num_kept - 1 - len(run.label)) for run in runs]
        label_RJ = torch.tensor(labels, dtype=torch.long).view(len(runs), num_kept - 1)
        is_label_RJ = torch.arange(num_kept - 1) < torch.tensor([len(run.label) for run in runs])[:, None]
        prompt_R = torch.tensor([run.prompt for run in runs])
        embeddings_RTD = self._embed(torch.cat([ids_RT, label_RJ], dim=1), prompt_R, bank)
        states: list[Tensor] = []
        mask_RT = torch.cat([mask_RT, is_label_RJ], dim=1)
        keep = {"logits_to_keep": num_kept} if self._keeps_logits else {}
        with self._head_input(states.append) if keep_states else nullcontext():
            output = self._forward(embeddings_RTD, mask_RT, prompt_R, bank, **keep)
        logits_RJV = output.logits[:, -num_kept:]
        return logits_RJV, states[0][:, -num_kept:] if keep_states else None

    def _embed(self, ids_RT: Tensor, prompt_R: Tensor, bank: PromptBank) -> Tensor:
        embeddings_RTD = self._embed_words(ids_RT.clamp(min=0))
        if bank.embeddings_TPD is None:
            return embeddings_RTD
        row_I, place_I = (ids_RT < 0).nonzero(as_tuple=True)
        vectors_ID = bank.embeddings_TPD[
            prompt_R[row_I].to(self.device), (-1 - ids_RT[row_I, place_I]).to(self.device)
        ]
        places = row_I.to(self.device), place_I.to(self.device)
        return embeddings_RTD.index_put(places, vectors_ID.to(embeddings_RTD.dtype))

    def _forward(
        self, embeddings_RTD: Tensor, mask_RT: Tensor, prompt_R: Tensor, bank: PromptBank, **named: object
    ) -> probes.ModelOutput:
        """The model's own forward; behind keys and values, if the prompts are such."""
        prefix_R = torch.tensor(bank.prefix_lengths)[prompt_R]
        arguments: dict[str, object] = {"use_cache": False, **named}
        if self._counts_from_0:
            positions_RT = (mask_RT.cumsum(1) - 1).clamp(min=0) + prefix_R[:, None]
            arguments["position_ids"] = positions_RT.to(self.device)
        if bank.keys_TLHPK is not None:
            width = int(prefix_R.max())  # of these rows: behind a wider one, all would stand behind a gap
            mask_RT = torch.cat([torch.arange(width) < prefix_R[:, None], mask_RT], dim=1)
            arguments |= {"past_key_values": self._cache(bank, prompt_R, width), "use_cache": True}
        arguments["attention_mask"] = mask_RT.long().to(self.device)
        return cast(probes.ModelOutput, self.model(inputs_embeds=embeddings_RTD, **arguments))

    def _cache(self, bank: PromptBank, prompt_R: Tensor, width: int) -> DynamicCache:
        """The first `width` of the prompts' keys and values in the family's own cache, one prompt a row."""
        assert bank.keys_TLHPK is not None
        assert bank.values_TLHPK is not None
        cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        which_R = prompt_R.to(self.device)
        for layer in range(bank.keys_TLHPK.shape[1]):
            keys_RHPK = bank.keys_TLHPK[which_R, layer, :, :width].to(self.dtype)
            values_RHPK = bank.values_TLHPK[which_R, layer, :, :width].to(self.dtype)
            cache.update(keys_RHPK, values_RHPK, layer)
        return cache

    @contextmanager
    def _head_input(self, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        """While this is open, `change` sees the input of the model's head, and may give another."""
        head = self.model.get_output_embeddings()
        if not isinstance(head, nn.Module):
            raise BackboneError(f"{type(self.model).__name__} has no head whose states could be compared.")
        hook = head.register_forward_pre_hook(lambda _, given: change(given[0]))
        try:
            yield
        finally:
            hook.remove()


def _recomputed(forward: Callable[..., object], *arguments: object, **named: object) -> object:
    # Run twice, a layer would add its keys to a cache twice.
    if not torch.is_grad_enabled() or named.get("past_key_values") is not None:
        return forward(*arguments, **named)
    return checkpoint(partial(forward, **named), *arguments, use_reentrant=False)
