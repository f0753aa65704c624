"""The frozen model: what a prompt may know of it, and how a stream of tokens runs through it.

Nothing here trains. The weights take no gradient, the model stays in eval mode and in its own
dtype; prompts and losses stay fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_layers import GradientCheckpointingLayer

from softcue.backbone import families
from softcue.backbone.attention import NAME, AttentionPlan, Watch, following, replaying
from softcue.backbone.scoring import trie_of
from softcue.backbone.static_context import StaticContexts
from softcue.backbone.stream import RowPlan, Stream, Surroundings, lay_out
from softcue.contracts import BackboneSpec, PromptBank
from softcue.errors import BackboneError


class FrozenLM:
    """A causal language model that runs streams of tokens and never changes.

    Deliberately no `nn.Module`: what holds it neither saves nor trains it.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, name: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self._plain_attention = str(model.config._attn_implementation)
        families.follow_plans(model)
        self.contexts = StaticContexts(lambda rows: self._capture(rows, PromptBank()))
        self.spec = self._describe(name)
        if model.config.model_type not in families.VERIFIED and self.device.type != "meta":
            self._compare_with_plain_forward()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast(torch.device, self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return cast(torch.dtype, self.model.dtype)

    def to(self, device: torch.device | str) -> FrozenLM:
        """The same object, its weights on `device`."""
        cast(nn.Module, self.model).to(device)
        return self

    def surroundings(self, bank: PromptBank) -> Surroundings:
        """What rows that wear this bank's prompts stand in."""
        return Surroundings(
            prefix_lengths=bank.prefix_lengths,
            alibi_slopes_H=families.alibi_slopes(self.model),
            num_groups=self.spec.num_attention_heads // self.spec.num_kv_heads,
            device=self.device,
        )

    def hidden(self, stream: Stream, bank: PromptBank, static_SPL2HK: Tensor | None) -> Tensor:
        """Final hidden state at every place of a stream that predicts: [M, D]."""
        return self._run(self._embed(stream, bank), stream, bank, static_SPL2HK=static_SPL2HK, captured=None)

    def logits(self, hidden_MD: Tensor) -> Tensor:
        """Next-token logits, in fp32: [M, V]."""
        head = cast(nn.Module, self.model.get_output_embeddings())
        return cast(Tensor, head(hidden_MD)).float()

    def checkpoint_gradients(self) -> None:
        """Keep one activation a layer for the backward pass and recompute the rest there."""
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.forward = partial(_recomputed, module.forward)

    def key_values(self, embeddings_PD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [L, H, P, K] that embeddings leave in every layer, run from position 0."""
        bank = PromptBank(embeddings_TPD=embeddings_PD[None].to(self.device))
        (keys_values_PL2HK,) = self._capture([tuple(-1 - k for k in range(len(embeddings_PD)))], bank)
        keys_LHPK, values_LHPK = keys_values_PL2HK.float().permute(2, 1, 3, 0, 4).unbind(0)
        return keys_LHPK, values_LHPK

    @torch.no_grad()
    def watch_row(self, ids: tuple[int, ...], bank: PromptBank, watch: Watch) -> None:
        """Run one row alone, in a bank of one prompt, and tell `watch` of the attention in every layer.

        Keys are those of the prompt's prefix, if it has one, then those of the row's tokens.
        """
        stream = self._lay_out([ids], bank)
        embeddings_ND = self._embed(stream, bank)
        self._run(embeddings_ND, stream, bank, static_SPL2HK=None, captured=None, watch=watch)

    @torch.no_grad()
    def _capture(self, rows: Sequence[tuple[int, ...]], bank: PromptBank) -> list[Tensor]:
        """Keys and values that each row leaves in every layer: [P, L, 2, H, K]."""
        stream = self._lay_out(rows, bank)
        captured: list[tuple[Tensor, Tensor]] = []
        self._run(self._embed(stream, bank), stream, bank, static_SPL2HK=None, captured=captured)
        stacked_NL2HK = torch.stack([torch.stack(both, dim=1) for both in captured], dim=1)
        return [torch.cat([stacked_NL2HK[head], stacked_NL2HK[tail]]) for head, tail in stream.row_spans]

    def _lay_out(self, rows: Sequence[tuple[int, ...]], bank: PromptBank) -> Stream:
        """Plain rows: the plan wants something to predict, so token 0 is read off, and never run."""
        anything = trie_of(((0,),))
        plans = [RowPlan(ids=ids, prompt=0, trie=anything, num_static=0) for ids in rows]
        return lay_out(plans, self.surroundings(bank))

    def _embed(self, stream: Stream, bank: PromptBank) -> Tensor:
        """The frozen table where an id is a word, the row's prompt where it is a virtual token."""
        table = cast(nn.Module, self.model.get_input_embeddings())
        words_ND = cast(Tensor, table(stream.ids_N.clamp(min=0)))
        if families.sums_in_fp32(self.model):
            words_ND = words_ND.float()
        virtual_I = (stream.ids_N < 0).nonzero().squeeze(1)
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
        static_SPL2HK: Tensor | None,
        captured: list[tuple[Tensor, Tensor]] | None,
        watch: Watch | None = None,
    ) -> Tensor:
        plan = AttentionPlan(
            levels=stream.levels,
            prefix_keys_TPHK=self._by_layer(bank.keys_TLHPK),
            prefix_values_TPHK=self._by_layer(bank.values_TLHPK),
            static_SPL2HK=static_SPL2HK,
            read_M=stream.predicting_M,
            captured=captured,
            watch=watch,
        )
        with following(plan):
            output = self.model.base_model(
                inputs_embeds=embeddings_ND[None],
                use_cache=False,
                return_dict=True,
                **families.position_arguments(self.model, stream.positions_N),
            )
        states = cast(Tensor, output.last_hidden_state)[0]
        return states if families.reads_early(self.model) else states.index_select(0, stream.predicting_M)

    def _by_layer(self, keys_TLHPK: Tensor | None) -> tuple[Tensor, ...]:
        if keys_TLHPK is None:
            return ()
        return keys_TLHPK.transpose(2, 3).unbind(dim=1)

    def _describe(self, name: str) -> BackboneSpec:
        config = self.model.config.get_text_config()
        num_heads = config.num_attention_heads
        num_kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // num_heads
        table = cast(nn.Embedding, self.model.get_input_embeddings())
        return BackboneSpec(
            name=name,
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_attention_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_size=head_size,
            max_positions=_max_positions(config),
            num_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            embedding_VD=table.weight.detach(),
            tokenize=self._tokenize,
            key_values=self.key_values,
        )

    def _tokenize(self, text: str) -> list[int]:
        return cast(list[int], self.tokenizer.encode(text, add_special_tokens=False))

    def _compare_with_plain_forward(self) -> None:
        """Refuse a family whose forward the plan does not reproduce, before it spoils a result."""
        ids = torch.arange(5, 17, device=self.device) % self.spec.vocab_size
        rows = [tuple(ids[:8].tolist()), tuple(ids[:4].tolist() + ids[8:].tolist())]
        with torch.no_grad():
            stream = self._lay_out(rows, PromptBank())
            ours = self.logits(self.hidden(stream, PromptBank(), None))
            self.model.set_attn_implementation(self._plain_attention)
            plain = torch.cat([self.model(torch.tensor([row])).logits[:, -1] for row in rows]).float()
            self.model.set_attn_implementation(NAME)
        difference = (ours.log_softmax(-1) - plain.log_softmax(-1)).abs().max().item()
        if not difference < (1e-3 if self.dtype == torch.float32 else 0.25):
            raise BackboneError(
                f"{type(self.model).__name__} gives log-probabilities {difference:.2g} apart between its own "
                "forward and softcue's plan, so its results could not be trusted; choose another family."
            )


def _recomputed(forward: Callable[..., object], *arguments: object, **named: object) -> object:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(partial(forward, **named), *arguments, use_reentrant=False, context_fn=replaying)


def _max_positions(config: object) -> int:
    """Longest row the model can tell apart; ALiBi models name their training length seq_length."""
    names = ("max_position_embeddings", "n_positions", "seq_length")
    limits = [getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)]
    window = getattr(config, "sliding_window", None)
    # A row within the window is seen whole, which is what the plan assumes.
    return min([*limits[:1], *([window] if isinstance(window, int) else [])], default=2048)
