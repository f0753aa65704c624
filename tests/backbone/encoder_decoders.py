"""Tiny random encoder-decoders, and two oracles: the model's own forward, and T5 written out with prefixes.

Both run one row and one text at a time, unpadded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from softcue.backbone.encoder_decoder_lm import EncoderDecoderLM
from softcue.backbone.engine import make_backbone
from softcue.contracts import Choices, PromptBank
from tests.tiny import tiny_tokenizer

VOCABULARY, HIDDEN, START = 64, 32, 3
T5 = {
    "d_model": HIDDEN,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
}
BART = {
    "d_model": HIDDEN,
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 48),
    "max_position_embeddings": 128,
}
FAMILIES: Mapping[str, dict[str, Any]] = {
    "t5": {**T5, "feed_forward_proj": "relu"},
    "mt5": {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "umt5": {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bart": BART,
    "mbart": {**BART, "scale_embedding": True},
    "pegasus": {**BART, "scale_embedding": True},
    "marian": {**BART, "scale_embedding": True},
    "blenderbot": BART,
    "led": {
        **{name: value for name, value in BART.items() if name != "max_position_embeddings"},
        "attention_window": 4,
        "max_encoder_position_embeddings": 128,
        "max_decoder_position_embeddings": 128,
    },
    "prophetnet": {
        "hidden_size": HIDDEN,
        **dict.fromkeys(("num_encoder_layers", "num_decoder_layers"), 2),
        **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 48),
    },
}


def tiny_encoder_decoder(
    family: str, *, dtype: torch.dtype = torch.float64, **settings: Any
) -> PreTrainedModel:
    """A random model whose weights are large enough for differences to show, and rounding is not."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=VOCABULARY,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        decoder_start_token_id=START,
        attn_implementation="eager",
        **{**FAMILIES[family], **settings},
    )
    model = AutoModelForSeq2SeqLM.from_config(config)
    assert isinstance(model, PreTrainedModel)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
    cast(nn.Module, model).eval().to(dtype)
    return model


def on_engine(family: str, **settings: Any) -> EncoderDecoderLM:
    """The model on softcue's engine."""
    lm = make_backbone(
        tiny_encoder_decoder(family, **settings), tiny_tokenizer(), name=f"tiny_{family}", engine="auto"
    )
    assert isinstance(lm, EncoderDecoderLM)
    return lm


def typed(model: PreTrainedModel, part: nn.Module, tokens: Sequence[int]) -> Tensor:
    """The embeddings that a part applies to tokens: [T, D]."""
    table = cast(Any, part).get_input_embeddings()
    scale = model.config.hidden_size**0.5 if getattr(model.config, "scale_embedding", False) else 1.0
    # A class of embeddings that scales by itself has its factor.
    own = float(getattr(table, "embed_scale", scale))
    with torch.no_grad():
        vectors: Tensor = nn.functional.embedding(torch.tensor(list(tokens)), table.weight) * own
    return vectors


def oracle(
    model: PreTrainedModel,
    bank: PromptBank,
    rows: Sequence[Sequence[int]],
    choices: Choices,
    prompts: Sequence[int],
) -> Tensor:
    """Log-likelihood [B, C] of every text by the model's own forward; banks of embeddings only."""
    return torch.stack(
        [
            torch.stack([_own_forward(model, bank, row, text, prompt) for text in choices])
            for row, prompt in zip(rows, prompts, strict=True)
        ]
    )


def _own_forward(
    model: PreTrainedModel, bank: PromptBank, row: Sequence[int], text: Sequence[int], prompt: int
) -> Tensor:
    logits_JV = cast(nn.Module, model)(
        inputs_embeds=_row(model, bank, row, prompt)[None],
        decoder_inputs_embeds=_before(model, bank, text, prompt)[None],
    ).logits[0]
    return _likelihood(logits_JV, text)


def _row(model: PreTrainedModel, bank: PromptBank, row: Sequence[int], prompt: int) -> Tensor:
    words = typed(model, model.get_encoder(), [max(token, 0) for token in row])
    if bank.embeddings_TPD is None:
        return words[[at for at, token in enumerate(row) if token >= 0]]
    own = bank.embeddings_TPD[prompt].to(words.dtype)
    return torch.stack([words[at] if token >= 0 else own[-1 - token] for at, token in enumerate(row)])


def _before(model: PreTrainedModel, bank: PromptBank, text: Sequence[int], prompt: int) -> Tensor:
    words = typed(model, model.get_decoder(), [START, *text[:-1]])
    if model.config.model_type in ("pegasus", "marian"):
        words = words / model.config.hidden_size**0.5  # which their decoders multiply vectors by themselves
    own = bank.decoder_embeddings_TPD
    return words if own is None else torch.cat([own[prompt].to(words.dtype), words])


def _likelihood(logits_JV: Tensor, text: Sequence[int]) -> Tensor:
    log_probs = logits_JV[-len(text) :].log_softmax(dim=-1)
    return log_probs.gather(1, torch.tensor(list(text))[:, None]).sum().float()


@dataclass(frozen=True)
class Prefix:
    """Keys and values [L, H, P, K] of one site."""

    keys: Tensor
    values: Tensor


class PlainT5:
    """T5 (Raffel et al. 2020, section 2.1) from a model's weights, with keys and values at any site.

    A prefix's tokens have the positions before the first: its distances are those of words typed there.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.config = model, model.config
        self.weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        # Tied weights stand once in `named_parameters`.
        self.weights |= {
            name: value for name, value in model.state_dict().items() if name not in self.weights
        }

    def score(
        self, bank: PromptBank, row: Sequence[int], text: Sequence[int], prefixes: Mapping[str, Prefix]
    ) -> Tensor:
        """Log-likelihood of a text."""
        encoded = _row(self.model, bank, row, 0)
        for layer in range(self.config.num_layers):
            encoded = self._attend("encoder", layer, 0, encoded, encoded, prefixes.get("encoder"))
            encoded = self._feed("encoder", layer, 1, encoded)
        encoded = self._norm(encoded, "encoder.final_layer_norm.weight")
        states = _before(self.model, bank, text, 0)
        for layer in range(self.config.num_decoder_layers):
            states = self._attend("decoder", layer, 0, states, states, prefixes.get("decoder"))
            states = self._attend("decoder", layer, 1, states, encoded, prefixes.get("cross"))
            states = self._feed("decoder", layer, 2, states)
        states = self._norm(states, "decoder.final_layer_norm.weight")
        if self.config.model_type != "mt5":
            states = states * self.config.d_model**-0.5
        return _likelihood(states @ self.weights["lm_head.weight"].T, text)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        scale = (x.pow(2).mean(-1, keepdim=True) + self.config.layer_norm_epsilon).rsqrt()
        normed: Tensor = x * scale * self.weights[name]
        return normed

    def _attend(
        self, part: str, layer: int, place: int, x: Tensor, source: Tensor, prefix: Prefix | None
    ) -> Tensor:
        name = f"{part}.block.{layer}.layer.{place}"
        is_cross = part == "decoder" and place == 1
        own = f"{name}.{'EncDecAttention' if is_cross else 'SelfAttention'}"
        normed = self._norm(x, f"{name}.layer_norm.weight")
        attended = source if is_cross else normed
        heads = self.config.num_heads
        query, key, value = (
            (of @ self.weights[f"{own}.{part_name}.weight"].T).unflatten(1, (heads, -1)).transpose(0, 1)
            for of, part_name in ((normed, "q"), (attended, "k"), (attended, "v"))
        )
        if prefix is not None:
            key = torch.cat([prefix.keys[layer].to(key.dtype), key], dim=1)
            value = torch.cat([prefix.values[layer].to(value.dtype), value], dim=1)
        scores = query @ key.transpose(1, 2)
        ahead = key.shape[1] - len(attended)
        if not is_cross:
            positions = torch.arange(len(x))
            distance = torch.arange(-ahead, len(x))[None, :] - positions[:, None]
            table = self.weights[
                f"{part}.block.{self._bias_layer(layer)}.layer.0.SelfAttention.relative_attention_bias.weight"
            ]
            scores = scores + table[self._bucket(distance, both_ways=part == "encoder")].permute(2, 0, 1)
            if part == "decoder":
                scores = scores.masked_fill(distance > 0, -math.inf)
        mixed = (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)
        attended_to: Tensor = x + mixed @ self.weights[f"{own}.o.weight"].T
        return attended_to

    def _bias_layer(self, layer: int) -> int:
        """UMT5 has a bias in each layer, the others one for all."""
        return layer if self.config.model_type == "umt5" else 0

    def _bucket(self, distance: Tensor, *, both_ways: bool) -> Tensor:
        count, furthest = (
            self.config.relative_attention_num_buckets,
            self.config.relative_attention_max_distance,
        )
        offset = torch.zeros_like(distance)
        if both_ways:
            count //= 2
            offset = (distance > 0) * count
        away = distance.abs() if both_ways else (-distance).clamp(min=0)
        exact = count // 2
        far = (
            exact
            + (
                (away.clamp(min=1).float() / exact).log() / math.log(furthest / exact) * (count - exact)
            ).long()
        )
        return offset + torch.where(away < exact, away, far.clamp(max=count - 1))

    def _feed(self, part: str, layer: int, place: int, x: Tensor) -> Tensor:
        name = f"{part}.block.{layer}.layer.{place}"
        normed = self._norm(x, f"{name}.layer_norm.weight")
        own = f"{name}.DenseReluDense"
        if self.config.is_gated_act:
            gate = gelu(normed @ self.weights[f"{own}.wi_0.weight"].T, approximate="tanh")
            inner = gate * (normed @ self.weights[f"{own}.wi_1.weight"].T)
        else:
            inner = relu(normed @ self.weights[f"{own}.wi.weight"].T)
        return x + inner @ self.weights[f"{own}.wo.weight"].T
