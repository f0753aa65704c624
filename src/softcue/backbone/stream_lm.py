"""The stream engine: a batch as one row of tokens without padding, each shared token run once.

It equals the plain forward (every row in full, every logit), gradients included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, Self, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from softcue.backbone import entry, families
from softcue.backbone.attention import (
    AttentionHook,
    AttentionPlan,
    KeysAndValues,
    Plan,
    recompute_context,
    use_plan,
)
from softcue.backbone.base import (
    Backbone,
    Engine,
    KeyValueSizes,
    checkpoint_layers,
    embedding_of,
    make_spec,
)
from softcue.backbone.plain_continuation import RepeatedContinuation
from softcue.backbone.ragged_cache import ragged_cache
from softcue.backbone.row_limits import max_stream_positions
from softcue.backbone.scoring import NO_CHOICE, TargetStates, Trie, trie_of
from softcue.backbone.search import Continuation
from softcue.backbone.segments import AttentionSettings
from softcue.backbone.static_context import StaticContexts
from softcue.backbone.stream import RowPlan, Stream, lay_out, plan_rows, words_in_order, words_of
from softcue.backbone.stream_continuation import StreamContinuation
from softcue.contracts import BackboneSpec, Batch, Choices, Ids, PromptBank
from softcue.errors import BackboneError

NO_LABEL = trie_of(NO_CHOICE)


class StreamLM(Backbone):
    """A frozen model whose attention follows a plan made for each batch.

    Layers of the model are replaced as `families` describes; `undo` restores them. With `fp32_sums`,
    embeddings and the sums between layers stay fp32 beside weights of lower precision, and only
    products are rounded: this costs nothing measurable and about halves bfloat16's error. A family that
    multiplies states by its weights outside linear layers and norms cannot run so.

    Raises:
        BackboneError: the plan cannot reach the model's attention, or its layers keep keys of
            different shapes.
    """

    engine: ClassVar[Engine] = "stream"
    takes_padded_rows = False

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        name: str,
        fp32_sums: bool = True,
    ) -> None:
        super().__init__(model, tokenizer)
        self._patch, self._fp32_sums = families.patch_model(model), fp32_sums
        self._embed_words = embedding_of(model)
        self.contexts = StaticContexts(self._context)
        # One token, as `_make_spec` runs it, needs no more.
        self._queries_per_key = 1
        try:
            self.spec = self._make_spec(name)
            config = model.config.get_text_config(decoder=True)
            self._queries_per_key = config.num_attention_heads // self.spec.num_kv_heads
        except BaseException:
            self._patch.undo()
            raise

    def undo(self) -> None:
        """Restore the model's own layers; this object cannot be used afterwards."""
        self._patch.undo()

    def to(self, device: torch.device | str) -> Self:
        before = self.device
        super().to(device)
        if self.device != before:
            self.contexts.clear()
        return self

    def states(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetStates:
        bank, batch = self.for_rows(bank, batch)
        rows = plan_rows(batch, bank, choices)
        stream = lay_out(rows, self._settings(bank))
        embeddings_ND = self._embed(stream, bank, rows)
        hidden_MD = self._run(embeddings_ND, stream, bank, static_SPLHW=self._static(rows))
        return TargetStates(hidden_MD=hidden_MD, tries=[row.trie for row in rows])

    def continuation(self, bank: PromptBank, batch: Batch, *, max_new_tokens: int) -> Continuation:
        bank, batch = self.for_rows(bank, batch)
        if bank.first_layer:
            return RepeatedContinuation(batch, partial(self._next_logits, bank))
        rows = plan_rows(batch, bank, [NO_CHOICE] * len(batch))
        stream = lay_out(rows, self._settings(bank))
        static_SPLHW = self._static(rows)
        captured: dict[int, KeysAndValues] = {}
        embeddings_ND = self._embed(stream, bank, rows)
        hidden_MD = self._run(embeddings_ND, stream, bank, static_SPLHW=static_SPLHW, captured=captured)
        slopes_H = families.alibi_slopes(self.model)
        cache = ragged_cache(
            rows,
            bank,
            [captured[layer] for layer in range(len(captured))],
            static_SPLHW,
            slopes_HG=None if slopes_H is None else slopes_H.to(self.device).view(-1, self._queries_per_key),
            max_new_tokens=max_new_tokens,
        )
        return StreamContinuation(first_logits_NV=self.logits(hidden_MD), cache=cache, step=self._step)

    def logits(self, hidden_MD: Tensor) -> Tensor:
        with families.replace_final_states(self.model, hidden_MD[None]):
            output = self.model(inputs_embeds=hidden_MD[None], use_cache=False, return_dict=True)
        return cast(Tensor, output.logits)[0].float()

    def key_values(self, embeddings_PD: Tensor) -> tuple[Tensor, Tensor]:
        bank = PromptBank(embeddings_TPD=embeddings_PD[None].to(self.device))
        with torch.no_grad():
            by_layer = self._capture(tuple(-1 - k for k in range(len(embeddings_PD))), bank)
        keys_LHPK = torch.stack([keys_PHK.transpose(0, 1) for keys_PHK, _ in by_layer])
        values_LHPK = torch.stack([values_PHK.transpose(0, 1) for _, values_PHK in by_layer])
        return keys_LHPK.float(), values_LHPK.float()

    @torch.no_grad()
    def states_at(self, embeddings_PD: Tensor, layer: int) -> Tensor:
        bank = PromptBank(embeddings_TPD=embeddings_PD[None].to(self.device))
        return self._below(self._alone(tuple(-1 - k for k in range(len(embeddings_PD)))), bank, layer).float()

    @torch.no_grad()
    def run_with_hook(self, row: Ids, bank: PromptBank, hook: AttentionHook) -> None:
        alone = self._alone(row)
        stream = lay_out([alone], self._settings(bank))
        self._run(self._embed(stream, bank, [alone]), stream, bank, hook=hook)

    def checkpoint_gradients(self) -> None:
        checkpoint_layers(self.model, recompute_context)

    def limit_cache(self, budget_gb: float) -> None:
        self.contexts.set_budget(budget_gb)

    def _make_spec(self, name: str) -> BackboneSpec:
        by_layer = self._capture((0,), PromptBank())
        shapes = {(keys.shape[1:], values.shape[1:]) for keys, values in by_layer}
        if len(shapes) != 1:
            raise BackboneError("its layers keep keys of different shapes")
        (((num_heads, key_size), (_, value_size)),) = shapes
        return make_spec(
            self.model,
            self.tokenizer,
            name=name,
            embed=self._embed_words,
            key_values=self.key_values,
            states=self.states_at,
            sizes=KeyValueSizes(
                num_layers=len(by_layer), num_heads=num_heads, key_size=key_size, value_size=value_size
            ),
            max_positions=max_stream_positions(self.model.config),
        )

    def _settings(self, bank: PromptBank) -> AttentionSettings:
        return AttentionSettings(
            prefix_lengths=bank.prefix_lengths,
            alibi_slopes_H=families.alibi_slopes(self.model),
            queries_per_key=self._queries_per_key,
            device=self.device,
        )

    def _context(self, ids: Ids) -> Tensor:
        """Keys and values of a text, side by side, in every layer: [P, L, H, W]."""
        by_layer = self._capture(ids, PromptBank())
        return torch.stack([torch.cat(both, dim=-1) for both in by_layer], dim=1)

    def _static(self, rows: Sequence[RowPlan]) -> Tensor | None:
        """Keys and values of the rows' static contexts; None if no row has one."""
        contexts = [row.static_ids for row in rows]
        return self.contexts.side_by_side(contexts) if any(contexts) else None

    def _step(self, token_N: Tensor, positions_N: Tensor, plan: Plan) -> Tensor:
        return self.logits(self._run_layers(self._embed_vocabulary(token_N), positions_N, plan))

    def _capture(self, ids: Ids, bank: PromptBank) -> list[KeysAndValues]:
        """Keys and values [N, H, K] of one row, run alone, in each layer."""
        alone, captured = self._alone(ids), dict[int, KeysAndValues]()
        stream = lay_out([alone], self._settings(bank))
        self._run(self._embed(stream, bank, [alone]), stream, bank, captured=captured)
        if sorted(captured) != list(range(len(captured))):
            raise BackboneError(f"only its layers {sorted(captured)} keep keys")
        own = self.dtype
        return [(keys.to(own), values.to(own)) for _, (keys, values) in sorted(captured.items())]

    def _next_logits(self, bank: PromptBank, batch: Batch) -> Tensor:
        return self.logits(self.states(bank, batch, [NO_CHOICE] * len(batch)).hidden_MD)

    @staticmethod
    def _alone(ids: Ids, trie: Trie = NO_LABEL) -> RowPlan:
        """One row by itself."""
        return RowPlan(ids=ids, prompt=0, trie=trie, num_static=0)

    def _embed(self, stream: Stream, bank: PromptBank, rows: Sequence[RowPlan]) -> Tensor:
        """Vectors [N, D] of words, from the frozen table or as states where the bank enters, and of virtual
        tokens, from the row's prompt."""
        if bank.first_layer:
            words_ND = self._states_of_words(stream, bank, rows)
        else:
            words_ND = self._embed_vocabulary(stream.ids_N.clamp(min=0))
        virtual_I = stream.virtual_I
        if len(virtual_I) == 0:
            return words_ND
        number_I = -1 - stream.ids_N[virtual_I]
        assert bank.embeddings_TPD is not None, "the rows have virtual tokens that no prompt holds"
        vectors_ID = bank.embeddings_TPD[stream.prompt_N[virtual_I], number_I].to(words_ND.dtype)
        return words_ND.index_copy(0, virtual_I, vectors_ID)

    def _states_of_words(self, stream: Stream, bank: PromptBank, rows: Sequence[RowPlan]) -> Tensor:
        """The words' states where the bank enters [N, D], zeros in the virtual tokens' places."""
        parts = [
            self._states_of_row(row, bank.first_layer)[which]
            for row, which in words_in_order(rows, bank.prefix_lengths)
        ]
        states_WD = torch.cat(parts)
        zeros_ND = states_WD.new_zeros(len(stream.ids_N), states_WD.shape[1])
        return zeros_ND.index_copy(0, (stream.ids_N >= 0).nonzero().squeeze(1), states_WD)

    def _states_of_row(self, row: RowPlan, layer: int) -> Tensor:
        """States of a row's words and its trie's nodes [W, D], without the virtual tokens between them.

        They are kept for rows with a label: a row that is being written never comes again.
        """
        words = self._alone(words_of(row.ids), row.trie)
        compute = partial(self._below, words, PromptBank(), layer)
        key = layer, words.ids, row.trie.tokens, row.trie.parents
        return compute() if row.trie == NO_LABEL else self.contexts.keep(key, compute)

    def _below(self, row: RowPlan, bank: PromptBank, layer: int) -> Tensor:
        """The states of one row, run alone through the layers below one: [N, D]."""
        stream = lay_out([row], self._settings(bank))
        embeddings_ND = self._embed(stream, bank, [row])
        with (
            entry.taken(self.model, layer) as states,
            entry.skipped(self.model, slice(layer, None), embeddings_ND[None]),
            use_plan(self._plan(stream, bank)),
        ):
            self._layers(embeddings_ND, stream.positions_N)
        return states[0][0]

    def _embed_vocabulary(self, ids_N: Tensor) -> Tensor:
        words_ND = self._embed_words(ids_N)
        return words_ND.float() if self._fp32_sums else words_ND

    def _run(
        self,
        embeddings_ND: Tensor,
        stream: Stream,
        bank: PromptBank,
        *,
        static_SPLHW: Tensor | None = None,
        captured: dict[int, KeysAndValues] | None = None,
        hook: AttentionHook | None = None,
    ) -> Tensor:
        """Final hidden states at the stream's output positions: [M, D]."""
        plan = self._plan(stream, bank, static_SPLHW=static_SPLHW, captured=captured, hook=hook)
        with self._entering(embeddings_ND, bank.first_layer):
            return self._run_layers(embeddings_ND, stream.positions_N, plan)

    def _plan(
        self,
        stream: Stream,
        bank: PromptBank,
        *,
        static_SPLHW: Tensor | None = None,
        captured: dict[int, KeysAndValues] | None = None,
        hook: AttentionHook | None = None,
    ) -> AttentionPlan:
        return AttentionPlan(
            groups=stream.groups,
            prefix_keys_TPHK=_by_layer(bank.keys_TLHPK, bank.first_layer),
            prefix_values_TPHK=_by_layer(bank.values_TLHPK, bank.first_layer),
            static_SPLHW=static_SPLHW,
            output_M=stream.output_M,
            captured=captured,
            hook=hook,
        )

    @contextmanager
    def _entering(self, states_ND: Tensor, layer: int) -> Iterator[None]:
        """Run from a layer on, with these states as its input."""
        if layer == 0:
            yield
            return
        with (
            entry.skipped(self.model, slice(layer), states_ND[None]),
            entry.given(self.model, layer, states_ND[None]),
        ):
            yield

    def _run_layers(self, embeddings_ND: Tensor, positions_N: Tensor, plan: Plan) -> Tensor:
        """Final hidden states at the plan's output positions: [M, D]."""
        with use_plan(plan):
            states_ND = self._layers(embeddings_ND, positions_N)
        if families.selects_outputs_early(self.model):
            return states_ND
        return states_ND.index_select(0, plan.output_M)

    def _layers(self, embeddings_ND: Tensor, positions_N: Tensor) -> Tensor:
        """What the layers make of a stream, under the plan in use."""
        output = families.layers_of(self.model)(
            inputs_embeds=embeddings_ND[None],
            use_cache=False,
            return_dict=True,
            **families.position_arguments(self.model, positions_N),
        )
        return cast(Tensor, output.last_hidden_state)[0]


def _by_layer(keys_TLHPK: Tensor | None, first_layer: int) -> tuple[Tensor, ...]:
    """Keys or values by layer; those below the first are not run, and have another's."""
    if keys_TLHPK is None:
        return ()
    by_layer = keys_TLHPK.transpose(2, 3).unbind(dim=1)
    return by_layer[:1] * first_layer + by_layer
