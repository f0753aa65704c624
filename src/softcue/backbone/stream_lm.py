"""The stream engine: a batch as one row of tokens without padding, each shared token run once.

It equals the plain forward (every row in full, every logit), gradients included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Self, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_layers import GradientCheckpointingLayer

from softcue.backbone import families
from softcue.backbone.attention import AttentionHook, AttentionPlan, recompute_context, use_plan
from softcue.backbone.base import (
    Backbone,
    Engine,
    check_prefixes,
    describe,
    embedding_of,
    longest_row,
    prompts_of,
)
from softcue.backbone.probes import attention_window, rope_limit
from softcue.backbone.scoring import TargetStates, trie_of
from softcue.backbone.static_context import StaticContexts
from softcue.backbone.stream import AttentionSettings, RowPlan, Stream, common_prefix, lay_out
from softcue.contracts import BackboneSpec, Batch, Choices, Ids, PromptBank
from softcue.errors import BackboneError


class StreamLM(Backbone):
    """A frozen model whose attention follows a plan made for each batch.

    The model's layers are replaced where `families` says so; `undo` gives them back. With `fp32_sums`,
    embeddings and what layers add to them stay fp32 beside weights of lower precision, where only
    products are rounded then: it costs nothing measurable and about halves bfloat16's error. A family
    that multiplies states by its weights outside linear layers and norms cannot run so.

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
        self._patch, self._fp32_sums = families.patch(model), fp32_sums
        self._embed_words = embedding_of(model)
        self.contexts = StaticContexts(self._context)
        self._num_groups = 1
        try:
            self.spec = self._describe(name)
            config = model.config.get_text_config(decoder=True)
            self._num_groups = config.num_attention_heads // self.spec.num_kv_heads
        except BaseException:
            self._patch.undo()
            raise

    def undo(self) -> None:
        """Make the model what it was; this object is of no use afterwards."""
        self._patch.undo()

    def to(self, device: torch.device | str) -> Self:
        before = self.device
        super().to(device)
        if self.device != before:
            self.contexts.clear()
        return self

    def states(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetStates:
        rows = plan_rows(batch, bank, choices)
        stream = lay_out(rows, self._settings(bank))
        contexts = [row.static_ids for row in rows]
        static_SPLHW = self.contexts.side_by_side(contexts) if any(contexts) else None
        embeddings_ND = self._embed(stream, bank)
        hidden_MD = self._run(embeddings_ND, stream, bank, static_SPLHW=static_SPLHW)
        return TargetStates(hidden_MD=hidden_MD, tries=[row.trie for row in rows])

    def logits(self, hidden_MD: Tensor) -> Tensor:
        with families.final_states_given(self.model, hidden_MD[None]):
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
    def run_with_hook(self, row: Ids, bank: PromptBank, hook: AttentionHook) -> None:
        stream = self._lay_out(row, bank)
        self._run(self._embed(stream, bank), stream, bank, hook=hook)

    def checkpoint_gradients(self) -> None:
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.forward = partial(_recomputed, module.forward)

    def limit_cache(self, budget_gb: float) -> None:
        self.contexts.set_budget(budget_gb)

    def _describe(self, name: str) -> BackboneSpec:
        by_layer = self._capture((0,), PromptBank())
        shapes = {(keys.shape[1:], values.shape[1:]) for keys, values in by_layer}
        if len(shapes) != 1:
            raise BackboneError("its layers keep keys of different shapes")
        ((key_shape, value_shape),) = shapes
        return describe(
            self.model,
            name=name,
            embed=self._embed_words,
            tokenizer=self.tokenizer,
            key_values=self.key_values,
            num_layers=len(by_layer),
            num_kv_heads=key_shape[0],
            head_size=key_shape[1],
            value_size=value_shape[1],
            max_positions=_longest_row(self.model.config),
        )

    def _settings(self, bank: PromptBank) -> AttentionSettings:
        return AttentionSettings(
            prefix_lengths=bank.prefix_lengths,
            alibi_slopes_H=families.alibi_slopes(self.model),
            num_groups=self._num_groups,
            device=self.device,
        )

    def _context(self, ids: Ids) -> Tensor:
        """Keys and values, side by side, that a text leaves in every layer: [P, L, H, W]."""
        by_layer = self._capture(ids, PromptBank())
        return torch.stack([torch.cat(both, dim=-1) for both in by_layer], dim=1)

    def _capture(self, ids: Ids, bank: PromptBank) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [N, H, K] that one row, run alone, leaves in each layer."""
        stream = self._lay_out(ids, bank)
        captured: dict[int, tuple[Tensor, Tensor]] = {}
        self._run(self._embed(stream, bank), stream, bank, captured=captured)
        if sorted(captured) != list(range(len(captured))):
            raise BackboneError(f"only its layers {sorted(captured)} keep keys")
        return [captured[layer] for layer in range(len(captured))]

    def _lay_out(self, ids: Ids, bank: PromptBank) -> Stream:
        """One plain row: the plan wants something to predict, so token 0 is read off, and never run."""
        plan = RowPlan(ids=ids, prompt=0, trie=trie_of(((0,),)), num_static=0)
        return lay_out([plan], self._settings(bank))

    def _embed(self, stream: Stream, bank: PromptBank) -> Tensor:
        """The frozen table where an id is a vocabulary token, the row's prompt where it is virtual."""
        words_ND = self._embed_words(stream.ids_N.clamp(min=0))
        if self._fp32_sums:
            words_ND = words_ND.float()
        virtual_I = stream.virtual_I
        if len(virtual_I) == 0:
            return words_ND
        number_I = -1 - stream.ids_N[virtual_I]
        assert bank.embeddings_TPD is not None, "the rows name virtual tokens that no prompt holds"
        vectors_ID = bank.embeddings_TPD[stream.prompt_N[virtual_I], number_I].to(words_ND.dtype)
        return words_ND.index_copy(0, virtual_I, vectors_ID)

    def _run(
        self,
        embeddings_ND: Tensor,
        stream: Stream,
        bank: PromptBank,
        *,
        static_SPLHW: Tensor | None = None,
        captured: dict[int, tuple[Tensor, Tensor]] | None = None,
        hook: AttentionHook | None = None,
    ) -> Tensor:
        """Final hidden state at every place of a stream that predicts: [M, D]."""
        plan = AttentionPlan(
            levels=stream.levels,
            prefix_keys_TPHK=_by_layer(bank.keys_TLHPK),
            prefix_values_TPHK=_by_layer(bank.values_TLHPK),
            static_SPLHW=static_SPLHW,
            read_M=stream.predicting_M,
            captured=captured,
            hook=hook,
        )
        with use_plan(plan):
            output = families.layers_of(self.model)(
                inputs_embeds=embeddings_ND[None],
                use_cache=False,
                return_dict=True,
                **families.position_arguments(self.model, stream.positions_N),
            )
        states_ND = cast(Tensor, output.last_hidden_state)[0]
        if families.selects_outputs_early(self.model):
            return states_ND
        return states_ND.index_select(0, stream.predicting_M)


def _longest_row(config: PreTrainedConfig) -> int:
    """A row within these positions is seen whole, and under one form of rotary embedding."""
    limits = [longest_row(config), attention_window(config), rope_limit(config)]
    return min(limit for limit in limits if limit is not None)


def plan_rows(batch: Batch, bank: PromptBank, choices: Sequence[Choices]) -> list[RowPlan]:
    """What to run of each row: after a static context worth keeping, if it begins with one.

    Of a row whose prompt is keys and values, the virtual tokens are not run.
    """
    prompts = prompts_of(batch, bank)
    lengths = [bank.prefix_lengths[prompt] for prompt in prompts]
    check_prefixes(batch.rows, lengths)
    rows = [row[length:] for row, length in zip(batch.rows, lengths, strict=True)]
    # Tokens that all rows share are run once a step: less than fetching them for every row.
    num_shared = len(common_prefix(rows))
    return [
        RowPlan(
            ids=ids,
            prompt=prompt,
            trie=trie_of(row_choices),
            num_static=leading if (leading := _num_leading_tokens(ids)) > num_shared else 0,
        )
        for ids, prompt, row_choices in zip(rows, prompts, choices, strict=True)
    ]


def _num_leading_tokens(ids: Ids) -> int:
    """Vocabulary tokens before the first virtual one; 0 in a row that has none and so trains nothing."""
    return next((place for place, token in enumerate(ids) if token < 0), 0)


def _by_layer(keys_TLHPK: Tensor | None) -> tuple[Tensor, ...]:
    if keys_TLHPK is None:
        return ()
    return keys_TLHPK.transpose(2, 3).unbind(dim=1)


def _recomputed(forward: Callable[..., object], *arguments: object, **named: object) -> object:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    run = partial(forward, **named)
    return checkpoint(run, *arguments, use_reentrant=False, context_fn=recompute_context)
