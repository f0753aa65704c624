"""The plain engine: the model's own untouched forward on left-padded rows.

It runs every causal language model of transformers, quantised ones included, and is the reference for
the stream engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerFast

from softcue.backbone import entry, families, probes
from softcue.backbone.attention import AttentionHook
from softcue.backbone.base import (
    Backbone,
    Engine,
    check_prefixes,
    checkpoint_layers,
    embedding_of,
    make_spec,
    row_prompts,
)
from softcue.backbone.label_runs import PaddedRuns, group_by_length, list_runs, output_indices, pad_runs
from softcue.backbone.plain_continuation import CachedContinuation, RepeatedContinuation
from softcue.backbone.prefix_cache import fill_cache, keys_and_values, probe_cache
from softcue.backbone.row_limits import max_positions
from softcue.backbone.scoring import (
    NO_CHOICE,
    TargetScores,
    TargetStates,
    Trie,
    edge_log_probs,
    gather_paths,
    trie_of,
)
from softcue.backbone.search import Continuation
from softcue.contracts import Batch, Choices, Ids, PromptBank
from softcue.errors import BackboneError


@dataclass(frozen=True, kw_only=True)
class _Outputs:
    """The model's output at the M positions that predict target tokens."""

    logits_MV: Tensor
    hidden_MD: Tensor | None
    """Final states, if they were asked for."""
    tries: list[Trie]


class PlainLM(Backbone):
    """A frozen model that runs as transformers wrote it.

    If padding would change a row's result (`pads_are_exact` is False), only rows of equal length run
    together.

    Raises:
        BackboneError: the model is no causal language model, or embeddings cannot replace its tokens.
    """

    engine: ClassVar[Engine] = "plain"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, name: str) -> None:
        super().__init__(model, tokenizer)
        families.keep_differentiable(model)
        probes.check_runs(model)
        self._takes_logits_to_keep = "logits_to_keep" in probes.arguments_of(model)
        # In bfloat16 rounding hides what padding, a cache or later tokens change.
        exact = nullcontext() if probes.is_quantised(model) else probes.in_dtype(model, torch.float32)
        with exact:
            probes.check_causal(model)
            embed = embedding_of(model, scale=probes.embedding_scale(model))
            probes.check_gradients(model, embed)
            positions = probes.counts_positions_from_0(model, embed)
            self.pads_are_exact = probes.pads_are_exact(model, embed, positions=positions)
            cache = probe_cache(model, embed, positions=positions)
            entry_refusal = entry.refusal(model, embed)
        self._embed_words, self._counts_from_0 = embed, positions
        self._pads_after_prefix = cache.pads_are_exact
        self.spec = make_spec(
            model,
            tokenizer,
            name=name,
            embed=embed,
            key_values=self.key_values,
            states=self.states_at,
            sizes=cache.sizes,
            max_positions=max_positions(model.config),
            prefix_refusal=cache.refusal,
            entry_refusal=entry_refusal if self.pads_are_exact else "padding changes its results",
        )

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

    def continuation(self, bank: PromptBank, batch: Batch, *, max_new_tokens: int) -> Continuation:
        bank, batch = self.for_rows(bank, batch)
        prompts, prefix_lengths = row_prompts(batch, bank), bank.prefix_lengths
        check_prefixes(batch.rows, [prefix_lengths[prompt] for prompt in prompts])
        runs = list_runs(prompts, [trie_of(NO_CHOICE)] * len(batch))
        is_even = len(group_by_length(runs, batch, prefix_lengths)) == 1
        refused = self.spec.prefix_refusal is not None or bank.first_layer > 0
        if refused or not (is_even or self._pads(bank)):
            return RepeatedContinuation(batch, partial(self._next_logits, bank))
        padded = pad_runs(runs, batch, prefix_lengths, as_batch=False)
        arguments = self._arguments(padded, bank)
        output = self._forward(padded, bank, use_cache=True, **self._keep(1))
        return CachedContinuation(
            first_logits_NV=output.logits[:, -1].float(),
            mask_NT=cast(Tensor, arguments["attention_mask"]),
            cache=cast(DynamicCache, output.past_key_values),
            step=self._step,
        )

    def logits(self, hidden_MD: Tensor) -> Tensor:
        """The model's own logits: one token runs, and the input of its head is replaced by these states."""
        with self._head_input(lambda _: hidden_MD[None]):
            output = self.model(inputs_embeds=self._embed_words(torch.zeros(1, 1, dtype=torch.long)))
        return cast(Tensor, output.logits)[0].float()

    def key_values(self, embeddings_PD: Tensor) -> tuple[Tensor, Tensor]:
        embeddings_1PD = embeddings_PD[None].to(self.device, self.dtype)
        with torch.no_grad():
            cache = self.model(inputs_embeds=embeddings_1PD, use_cache=True).past_key_values
        keys, values = zip(*keys_and_values(cache), strict=True)
        return torch.cat(keys).float(), torch.cat(values).float()

    @torch.no_grad()
    def states_at(self, embeddings_PD: Tensor, layer: int) -> Tensor:
        with entry.taken(self.model, layer) as states:
            self.model(inputs_embeds=embeddings_PD[None].to(self.device, self.dtype), use_cache=False)
        return states[0][0].float()

    @torch.no_grad()
    def run_with_hook(self, row: Ids, bank: PromptBank, hook: AttentionHook) -> None:
        alone = PaddedRuns(
            ids_RT=torch.tensor([row]),
            mask_RT=torch.ones(1, len(row), dtype=torch.bool),
            prompt_R=torch.zeros(1, dtype=torch.long),
            num_outputs=1,
        )
        own = str(self.model.config._attn_implementation)
        self.model.set_attn_implementation("eager")
        try:
            output = self._forward(alone, bank, output_attentions=True, use_cache=True)
        finally:
            self.model.set_attn_implementation(own)
        layers = keys_and_values(output.past_key_values)
        attentions = output.attentions or ()
        if len(attentions) != len(layers):
            raise BackboneError(f"{type(self.model).__name__} does not return the attention of its layers.")
        entered = list(zip(attentions, layers, strict=True))[bank.first_layer :]
        for attention, (keys, values) in entered:
            hook(attention.float(), keys.transpose(1, 2).float(), values.transpose(1, 2).float())

    def limit_cache(self, budget_gb: float) -> None:
        """Do nothing: this engine keeps nothing between steps."""

    def checkpoint_gradients(self) -> None:
        checkpoint_layers(self.model)

    def _run(
        self, bank: PromptBank, batch: Batch, choices: Sequence[Choices], *, keep_states: bool = False
    ) -> _Outputs:
        bank, batch = self.for_rows(bank, batch)
        prompts, prefix_lengths = row_prompts(batch, bank), bank.prefix_lengths
        check_prefixes(batch.rows, [prefix_lengths[prompt] for prompt in prompts])
        tries = [trie_of(row_choices) for row_choices in choices]
        runs = list_runs(prompts, tries)
        pads = self._pads(bank)
        groups = [runs] if pads else group_by_length(runs, batch, prefix_lengths)
        logits, states, widths = [], [], []
        for group in groups:
            padded = pad_runs(group, batch, prefix_lengths, as_batch=pads)
            logits_RJV, hidden_RJD = self._run_group(padded, bank, keep_states=keep_states)
            widths.append(padded.num_outputs)
            logits.append(logits_RJV.flatten(0, 1))
            states += [] if hidden_RJD is None else [hidden_RJD.flatten(0, 1)]
        index_M = torch.tensor(output_indices(groups, widths, tries), device=self.device)
        return _Outputs(
            logits_MV=torch.cat(logits)[index_M],
            hidden_MD=torch.cat(states)[index_M] if keep_states else None,
            tries=tries,
        )

    def _run_group(
        self, runs: PaddedRuns, bank: PromptBank, *, keep_states: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Logits [R, J, V], and final states [R, J, D] if asked for, of each run's output positions."""
        states: list[Tensor] = []
        with self._head_input(states.append) if keep_states else nullcontext():
            output = self._forward(runs, bank, **self._keep(runs.num_outputs))
        logits_RJV = output.logits[:, -runs.num_outputs :]
        return logits_RJV, states[0][:, -runs.num_outputs :] if keep_states else None

    def _pads(self, bank: PromptBank) -> bool:
        """Whether rows of any lengths run together with these prompts."""
        return self.pads_are_exact and (self._pads_after_prefix or not any(bank.prefix_lengths))

    def _keep(self, num_outputs: int) -> dict[str, int]:
        """The argument that limits logits to the last positions, for models that take it."""
        return {"logits_to_keep": num_outputs} if self._takes_logits_to_keep else {}

    def _next_logits(self, bank: PromptBank, batch: Batch) -> Tensor:
        return self._run(bank, batch, [NO_CHOICE] * len(batch)).logits_MV.float()

    def _step(self, token_N: Tensor, mask_NT: Tensor, cache: DynamicCache) -> Tensor:
        positions_N1 = mask_NT.sum(dim=1, keepdim=True) - 1
        output = self.model(
            inputs_embeds=self._embed_words(token_N)[:, None],
            attention_mask=mask_NT,
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": positions_N1} if self._counts_from_0 else {}),
        )
        return cast(Tensor, output.logits)[:, -1].float()

    def _place(self, words_RTD: Tensor, runs: PaddedRuns, bank: PromptBank) -> Tensor:
        """Put the prompts' vectors in the virtual tokens' places."""
        if bank.embeddings_TPD is None:
            return words_RTD
        row_I, position_I = (runs.ids_RT < 0).nonzero(as_tuple=True)
        number_I = -1 - runs.ids_RT[row_I, position_I]
        vectors_ID = bank.embeddings_TPD[runs.prompt_R[row_I].to(self.device), number_I.to(self.device)]
        index = row_I.to(self.device), position_I.to(self.device)
        return words_RTD.index_put(index, vectors_ID.to(words_RTD.dtype))

    def _forward(self, runs: PaddedRuns, bank: PromptBank, **named: object) -> probes.ModelOutput:
        """The model's own forward, after the prompts' keys and values if they have such."""
        words_RTD = self._embed_words(runs.ids_RT.clamp(min=0))
        arguments = {"use_cache": False, **self._arguments(runs, bank), **named}
        if bank.keys_TLHPK is not None:
            cache = self._cache(bank, runs.prompt_R, _width(bank, runs))
            arguments |= {"past_key_values": cache, "use_cache": True}
        if bank.first_layer == 0:
            inputs_RTD = self._place(words_RTD, runs, bank)
            return cast(probes.ModelOutput, self.model(inputs_embeds=inputs_RTD, **arguments))
        states_RTD = self._place(self._states_of_words(runs, bank.first_layer), runs, bank)
        with entry.given(self.model, bank.first_layer, states_RTD):
            return cast(probes.ModelOutput, self.model(inputs_embeds=words_RTD, **arguments))

    @torch.no_grad()
    def _states_of_words(self, runs: PaddedRuns, layer: int) -> Tensor:
        """States [R, T, D] of the runs' words at a layer's input, as rows of words alone have them."""
        is_word_RT = runs.mask_RT & (runs.ids_RT >= 0)
        # Virtual tokens join the padding on the left.
        order_RT = is_word_RT.int().argsort(dim=1, stable=True)
        words = PaddedRuns(
            ids_RT=runs.ids_RT.gather(1, order_RT),
            mask_RT=is_word_RT.gather(1, order_RT),
            prompt_R=torch.zeros_like(runs.prompt_R),
            num_outputs=1,
        )
        with entry.taken(self.model, layer) as states:
            self._forward(words, PromptBank(), **self._keep(1))
        place_RT1 = order_RT.argsort(dim=1)[:, :, None]
        return states[0].take_along_dim(place_RT1.to(self.device), dim=1)

    def _arguments(self, runs: PaddedRuns, bank: PromptBank) -> dict[str, object]:
        """The mask of the prompts' keys and the runs' tokens, and the positions of these."""
        prefix_R = torch.tensor(bank.prefix_lengths)[runs.prompt_R]
        mask_RT = runs.mask_RT
        arguments: dict[str, object] = {}
        if self._counts_from_0:
            positions_RT = (mask_RT.cumsum(1) - 1).clamp(min=0) + prefix_R[:, None]
            arguments["position_ids"] = positions_RT.to(self.device)
        if bank.keys_TLHPK is not None:
            mask_RT = torch.cat([torch.arange(_width(bank, runs)) < prefix_R[:, None], mask_RT], dim=1)
        return {**arguments, "attention_mask": mask_RT.long().to(self.device)}

    def _cache(self, bank: PromptBank, prompt_R: Tensor, width: int) -> DynamicCache:
        """The first `width` keys and values of each run's prompt in the model's own cache."""
        assert bank.keys_TLHPK is not None
        assert bank.values_TLHPK is not None
        index_R = prompt_R.to(self.device)
        by_layer = list(zip(bank.keys_TLHPK.unbind(dim=1), bank.values_TLHPK.unbind(dim=1), strict=True))
        # What the layers below the first make of a row is replaced, but their keys must be as many.
        by_layer = by_layer[:1] * bank.first_layer + by_layer
        return fill_cache(
            self.model,
            (
                (keys[index_R, :, :width].to(self.dtype), values[index_R, :, :width].to(self.dtype))
                for keys, values in by_layer
            ),
        )

    @contextmanager
    def _head_input(self, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        """Pass the input of the model's head to `change`, which may return another, inside this context."""
        head = self.model.get_output_embeddings()
        if not isinstance(head, nn.Module):
            raise BackboneError(
                f"{type(self.model).__name__} has no output embeddings, so its final states are not known. "
                "Train without distillation, or choose another model."
            )
        hook = head.register_forward_pre_hook(lambda _, inputs: change(inputs[0]))
        try:
            yield
        finally:
            hook.remove()


def _width(bank: PromptBank, runs: PaddedRuns) -> int:
    """Keys in front of these runs: those of the longest of their own prompts, or all would follow a gap."""
    prompts: list[int] = runs.prompt_R.tolist()
    return max(bank.prefix_lengths[prompt] for prompt in prompts)
