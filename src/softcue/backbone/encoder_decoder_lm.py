"""Encoder-decoder models: the encoder runs once per row, the decoder once per path of label tokens.

The virtual tokens of a row are in the encoder's; a bank may have others in front of the decoder's start
token, and keys and values in front of every attention. Where positions are in the attention alone, as in T5,
the encoder's rows stand one behind the other, without padding; elsewhere they are padded on the right, where
nothing depends on the padding. Letters as in decoder_runs.py; E encoder positions, N of all rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from softcue.backbone import probes, site_attention, sites
from softcue.backbone.attention import AttentionHook
from softcue.backbone.base import Backbone, Engine, checkpoint_layers, make_spec, row_prompts
from softcue.backbone.decoder_runs import DecoderRuns
from softcue.backbone.row_limits import max_positions
from softcue.backbone.scoring import TargetStates, trie_of
from softcue.backbone.search import Continuation
from softcue.backbone.site_attention import Packing, Prefix, SitePlan
from softcue.backbone.sites import SITES
from softcue.contracts import Batch, Choices, Ids, PaddedRows, PromptBank
from softcue.errors import BackboneError


@dataclass(kw_only=True)
class Encoded:
    """R rows after the encoder, and what the decoder keeps of them."""

    states_RED: Tensor
    mask_RE: Tensor
    prompt_R: Tensor
    cache: EncoderDecoderCache | None = None

    def select(self, rows: Sequence[int]) -> None:
        """Keep some of the rows, in the given order, possibly several times."""
        index_R = torch.tensor(list(rows), device=self.states_RED.device)
        self.states_RED, self.mask_RE = self.states_RED[index_R], self.mask_RE[index_R]
        self.prompt_R = self.prompt_R[index_R]
        if self.cache is not None:
            for part in (self.cache.self_attention_cache, self.cache.cross_attention_cache):
                part.batch_select_indices(index_R)


class EncoderDecoderLM(Backbone):
    """A frozen encoder-decoder of transformers, run through its own modules.

    Raises:
        BackboneError: embeddings cannot replace its tokens, or its parts give other results than the model.
    """

    engine: ClassVar[Engine] = "encoder_decoder"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, name: str) -> None:
        super().__init__(model, tokenizer)
        self._head = cast(nn.Module, model.get_output_embeddings())
        self._start = sites.start_token(model)
        # In float32, so that what is compared differs by rounding alone.
        with probes.in_dtype(model, torch.float32):
            self._embed_row, self._embed_target = sites.embeddings(model, self._start)
            self._sites, refusal = sites.find(model)
        self._layer_of = sites.numbered(self._sites)
        self._relative_of = sites.relative_of(self._sites)
        encoder = self._sites["encoder"].modules if self._sites else ()
        # Of these, positions are in the attention alone, so that rows can stand one behind the other.
        self._packs = bool(encoder) and all(self._relative_of[module] is not None for module in encoder)
        for module in filter(None, {*self._relative_of.values()}):
            cast(Any, module).compute_bias = partial(site_attention.lazy_bias, module)
        self.spec = make_spec(
            model,
            tokenizer,
            name=name,
            embed=self._embed_row,
            key_values=self.key_values,
            states=self.states_at,
            sizes=sites.sizes(model, self._sites),
            max_positions=max_positions(model.config),
            prefix_refusal=refusal,
            entry_refusal="its layers are an encoder's and a decoder's",
            num_submodules=2,
            targets_apart=True,
            attentions=sites.layers_of(self._sites),
        )
        if self.device.type != "meta":  # a model without weights is only asked for its sizes
            with probes.in_dtype(model, torch.float32):
                self._expect_own_results()

    @property
    def takes_padded_rows(self) -> bool:
        return False

    def states(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetStates:
        bank, batch = self.for_rows(bank, batch)
        tries = [trie_of(row_choices) for row_choices in choices]
        runs = DecoderRuns.of(tries)
        encoded = self._encode(bank, batch)
        if runs.starts:
            encoded.select(runs.rows)
            hidden_RJD = self._decode(bank, encoded, runs.ids_RJ, starts=True, keeps=False)
            hidden_XD = hidden_RJD.flatten(0, 1)
        else:
            nothing = torch.zeros(len(batch), 0, dtype=torch.long)
            first_RD = self._decode(bank, encoded, nothing, starts=True, keeps=True).flatten(0, 1)
            encoded.select(runs.rows)
            later_RJD = self._decode(bank, encoded, runs.ids_RJ, starts=False, keeps=True)
            hidden_XD = torch.cat([first_RD, later_RJD.flatten(0, 1)])
        index_M = torch.tensor(runs.node_indices(tries), device=self.device)
        return TargetStates(hidden_MD=hidden_XD[index_M], tries=tries)

    def logits(self, hidden_MD: Tensor) -> Tensor:
        logits_MV = cast(Tensor, self._head(hidden_MD.to(self.dtype)))
        bias = getattr(self.model, "final_logits_bias", None)
        return (logits_MV if bias is None else logits_MV + bias).float()

    def continuation(self, bank: PromptBank, batch: Batch, *, max_new_tokens: int) -> Continuation:
        bank, batch = self.for_rows(bank, batch)
        return _Decoding(self, bank, self._encode(bank, batch))

    def length_of(self, longest: int, new: int) -> int:
        """Rows and texts have positions of their own."""
        return max(longest, new)

    def key_values(self, embeddings_PD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [L, H, P, K] of every site, with the embeddings before encoder and decoder."""
        vectors_1PD = embeddings_PD[None].to(self.device, self.dtype)
        plan = self._plan(captured={})
        with torch.no_grad(), site_attention.use_site_plan(plan):
            self.model(inputs_embeds=vectors_1PD, decoder_inputs_embeds=vectors_1PD, use_cache=False)
        assert plan.captured is not None
        keys, values = zip(*(plan.captured[layer] for layer in sorted(plan.captured)), strict=True)
        return torch.cat(keys).float(), torch.cat(values).float()

    def states_at(self, embeddings_PD: Tensor, layer: int) -> Tensor:
        assert layer == 0, "no prompt enters above the first layer"
        return embeddings_PD

    def in_row(self, bank: PromptBank) -> PromptBank:
        if bank.keys_TLHPK is None or bank.values_TLHPK is None:
            return replace(bank, decoder_embeddings_TPD=None)
        if "encoder" not in (bank.attentions or SITES):
            raise BackboneError(
                f"the prompt is in {list(bank.attentions or ())} attention, and only what is in the "
                "encoder's can be shown."
            )
        own = slice(0, len(self.spec.attentions["encoder"]))  # the encoder's layers come first
        return replace(
            bank,
            keys_TLHPK=bank.keys_TLHPK[:, own],
            values_TLHPK=bank.values_TLHPK[:, own],
            attentions=("encoder",),
        )

    @torch.no_grad()
    def run_with_hook(self, row: Ids, bank: PromptBank, hook: AttentionHook) -> None:
        if "encoder" not in self._sites:
            raise BackboneError(f"{type(self.model).__name__} does not return the attention of its layers.")
        own = frozenset(self._layer_of[module] for module in self._sites["encoder"].modules)
        rows = PaddedRows.of([_text_of(row, bank)])
        prompt_R = torch.zeros(1, dtype=torch.long, device=self.device)
        plan = self._plan(prefix=self._prefix(bank, prompt_R), hook=hook, hooked=own)
        with site_attention.use_site_plan(plan):
            self.model.get_encoder()(inputs_embeds=self._vectors(rows.ids_BT, bank, prompt_R))

    def checkpoint_gradients(self) -> None:
        checkpoint_layers(self.model, site_attention.recompute_context)

    def limit_cache(self, budget_gb: float) -> None:
        """Do nothing: this engine keeps nothing between steps."""

    def _expect_own_results(self) -> None:
        """Compare a short row, beside a longer one, with the model's own forward, and look at gradients."""
        name, ids = type(self.model).__name__, probes.probe_ids(self.model)[0].tolist()
        text, virtual, start = (5, 6, 7), ids[2], torch.tensor([[self._start, 5, 6]], device=self.device)
        expected_1JV = probes.run(
            self.model, input_ids=torch.tensor([ids[:3]], device=self.device), decoder_input_ids=start
        ).logits
        number_B = torch.zeros(2, dtype=torch.long)
        rows = Batch(
            rows=((*ids[:2], -1), (*ids, -1)),
            choices=((text,),) * 2,
            target_B=number_B,
            prompt_B=number_B,
            row_B=number_B,
        )
        leaf_1D = self._embed_row(torch.tensor([virtual])).float().requires_grad_()
        try:
            found_MV = self.logits(
                self.states(PromptBank(embeddings_TPD=leaf_1D[None]), rows, rows.choices).hidden_MD
            )
            (gradient,) = torch.autograd.grad(found_MV.sum(), leaf_1D)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise BackboneError(
                f"{name} cannot be run part by part ({probes.describe_error(error)}); choose another family."
            ) from error
        is_equal = probes.equal(self.model, expected_1JV[0].float(), found_MV[: len(text)].detach())
        if not (is_equal and gradient.isfinite().all()):
            what = "gives other results" if not is_equal else "has gradients of NaN"
            raise BackboneError(f"{name} {what} beside a longer row; choose another family.")

    def _plan(self, **settings: Any) -> SitePlan:
        return SitePlan(layer_of=self._layer_of, relative_of=self._relative_of, **settings)

    def _prefix(self, bank: PromptBank, prompt_R: Tensor) -> Prefix | None:
        chosen = [name for name in self._sites if bank.attentions is None or name in bank.attentions]
        layers = [layer for name in chosen for layer in self.spec.attentions[name]]
        return Prefix.of(bank, prompt_R, layers=layers)

    def _encode(self, bank: PromptBank, batch: Batch) -> Encoded:
        prompt_R = torch.tensor(row_prompts(batch, bank), device=self.device)
        rows = [_text_of(row, bank) for row in batch.rows]
        longest = max(map(len, rows))
        ids_RE = torch.tensor([row + (0,) * (longest - len(row)) for row in rows])
        mask_RE = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        mask_RE = mask_RE.to(self.device)
        vectors_RED, prefix = self._vectors(ids_RE, bank, prompt_R), self._prefix(bank, prompt_R)
        if not self._packs:
            with site_attention.use_site_plan(self._plan(prefix=prefix)):
                states_RED = self._run_encoder(vectors_RED, attention_mask=mask_RE)
            return Encoded(states_RED=states_RED, mask_RE=mask_RE, prompt_R=prompt_R)
        packing = Packing.of(mask_RE)
        with site_attention.use_site_plan(self._plan(prefix=prefix, packing=packing)):
            states_1ND = self._run_encoder(packing.in_one_row(vectors_RED))
        return Encoded(states_RED=states_1ND[0][packing.place_RE], mask_RE=mask_RE, prompt_R=prompt_R)

    def _run_encoder(self, vectors_RED: Tensor, **mask: Tensor) -> Tensor:
        states_RED: Tensor = self.model.get_encoder()(inputs_embeds=vectors_RED, **mask).last_hidden_state
        return states_RED

    def _vectors(self, ids_RE: Tensor, bank: PromptBank, prompt_R: Tensor) -> Tensor:
        vectors_RED = self._embed_row(ids_RE.clamp(min=0))
        if bank.embeddings_TPD is None:
            return vectors_RED
        row_I, position_I = (ids_RE < 0).nonzero(as_tuple=True)
        number_I = (-1 - ids_RE[row_I, position_I]).to(self.device)
        row_I, position_I = row_I.to(self.device), position_I.to(self.device)
        vectors_ID = bank.embeddings_TPD[prompt_R[row_I], number_I]
        return vectors_RED.index_put((row_I, position_I), vectors_ID.to(vectors_RED.dtype))

    def _decode(
        self, bank: PromptBank, encoded: Encoded, ids_RJ: Tensor, *, starts: bool, keeps: bool
    ) -> Tensor:
        """Inputs of the head [R, J, D] at the start token, if it `starts`, and at the given tokens.

        With `keeps`, keys and values stay with the rows, so that other tokens can follow.
        """
        vectors_RJD = self._embed_target(ids_RJ)
        ahead = 0
        if starts:
            start_R1 = torch.full((len(ids_RJ), 1), self._start)
            vectors_RJD = torch.cat([self._embed_target(start_R1), vectors_RJD], dim=1)
            if bank.decoder_embeddings_TPD is not None:
                own_RPD = self._decoder_prompts(bank, encoded)
                ahead = own_RPD.shape[1]
                vectors_RJD = torch.cat([own_RPD.to(vectors_RJD.dtype), vectors_RJD], dim=1)
            if keeps:
                encoded.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        kept: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
            kept.append(inputs[0])
            return inputs[0][:1, :1]  # the logits of most positions are not needed

        hook = self._head.register_forward_pre_hook(keep)
        try:
            with site_attention.use_site_plan(self._plan(prefix=self._prefix(bank, encoded.prompt_R))):
                self.model(
                    encoder_outputs=BaseModelOutput(last_hidden_state=encoded.states_RED),
                    attention_mask=encoded.mask_RE,
                    decoder_inputs_embeds=vectors_RJD,
                    past_key_values=encoded.cache,
                    use_cache=keeps,
                )
        finally:
            hook.remove()
        return kept[0][:, ahead:]

    def _decoder_prompts(self, bank: PromptBank, encoded: Encoded) -> Tensor:
        """The virtual tokens in front of each row's start token: [R, P, D]."""
        assert bank.decoder_embeddings_TPD is not None
        lengths = {bank.num_virtual_tokens[prompt] for prompt in encoded.prompt_R.tolist()}
        if len(lengths) > 1:
            raise BackboneError(
                f"prompts of {sorted(lengths)} virtual tokens cannot run together in a decoder. Train them "
                "one after another, or with prompt.submodules=1."
            )
        return bank.decoder_embeddings_TPD[encoded.prompt_R, : lengths.pop()]

    def first_logits(self, bank: PromptBank, encoded: Encoded) -> Tensor:
        """Logits [R, V] of the first token of each text."""
        nothing = torch.zeros(len(encoded.prompt_R), 0, dtype=torch.long)
        hidden_R1D = self._decode(bank, encoded, nothing, starts=True, keeps=True)
        return self.logits(hidden_R1D[:, -1])

    def next_logits(self, bank: PromptBank, encoded: Encoded, tokens: Sequence[int]) -> Tensor:
        """Logits [R, V] of the tokens that follow the given ones."""
        ids_R1 = torch.tensor(list(tokens))[:, None]
        return self.logits(self._decode(bank, encoded, ids_R1, starts=False, keeps=True)[:, -1])


class _Decoding(Continuation):
    """Rows whose texts the decoder continues token by token."""

    def __init__(self, lm: EncoderDecoderLM, bank: PromptBank, encoded: Encoded) -> None:
        self._lm, self._bank, self._encoded = lm, bank, encoded
        self._first_logits_NV = lm.first_logits(bank, encoded)

    @property
    def first_logits_NV(self) -> Tensor:
        return self._first_logits_NV

    def extend(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        if list(parents) != list(range(len(self._encoded.prompt_R))):
            self._encoded.select(parents)
        return self._lm.next_logits(self._bank, self._encoded, tokens)


def _text_of(row: Ids, bank: PromptBank) -> Ids:
    """The row's own tokens: the virtual tokens of keys and values are in the attention."""
    return tuple(token for token in row if token >= 0) if bank.keys_TLHPK is not None else row
