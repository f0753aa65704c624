"""An encoder-decoder of t5-base's size against PEFT: a training step of prompt tuning, and generation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from experiments.speed.measure import Work, measured
from experiments.speed.ours import Ours
from experiments.speed.peers import TUTORIAL_WIDTH
from experiments.speed.rows import Workload
from softcue.backbone.encoder_decoder_lm import EncoderDecoderLM

VOCABULARY = 32_128
NEW_TOKENS = 32
Result = dict[str, Any]


def t5_base() -> PreTrainedModel:
    """A model of its shape with random weights: speed does not depend on their values."""
    torch.manual_seed(0)
    start: dict[str, Any] = {"decoder_start_token_id": 0}
    config = T5Config(vocab_size=VOCABULARY, d_model=768, d_ff=3072, num_layers=12, num_heads=12, **start)
    model = T5ForConditionalGeneration(config)
    cast(nn.Module, model).eval()
    return model


class PeftEncoderDecoder:
    """PEFT's prompt tuning of the encoder's row, as its tutorial for mT0 runs it."""

    def __init__(self, model: PreTrainedModel, *, num_virtual_tokens: int) -> None:
        config = PromptTuningConfig(
            task_type=TaskType.SEQ_2_SEQ_LM,
            num_virtual_tokens=num_virtual_tokens,
            num_transformer_submodules=1,
        )
        self.model = get_peft_model(model, config)
        self.model.eval()
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=1e-3)

    def train_step(
        self, rows: Sequence[list[int]], labels: Sequence[tuple[int, ...]], *, width: int
    ) -> float:
        """Loss on the label tokens, backward, update; rows padded to `width` or their longest."""
        ids, mask = _padded(rows, max(width, *map(len, rows)))
        longest = max(map(len, labels))
        targets = torch.tensor([list(label) + [-100] * (longest - len(label)) for label in labels])
        self.optimizer.zero_grad()
        loss = self.model(input_ids=ids, attention_mask=mask, labels=targets).loss
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def generate(self, rows: Sequence[list[int]]) -> None:
        """So many tokens for each row, greedily."""
        ids, mask = _padded(rows, max(map(len, rows)))
        self.model.generate(  # type: ignore[no-untyped-call]
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=None,
        )


def _padded(rows: Sequence[list[int]], width: int) -> tuple[Tensor, Tensor]:
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def encoder_decoder(work: Workload, *, num_virtual_tokens: int, rounds: int) -> list[Result]:
    """A step and 32 new tokens for the 16 rows, in float32, the ids taken modulo the vocabulary."""
    rows = [[token % (VOCABULARY - 10) + 5 for token in row] for row in work.rows]
    labels = [tuple(token % (VOCABULARY - 10) + 5 for token in label) for label in work.labels]
    peft = PeftEncoderDecoder(t5_base(), num_virtual_tokens=num_virtual_tokens)
    lm = EncoderDecoderLM(t5_base(), work.tokenizer, name="t5-base")
    ours = Ours(lm, "prompt_tuning", num_virtual_tokens=num_virtual_tokens)
    steps: dict[str, Work] = {
        "ours": partial(ours.train_step, rows, labels),
        "PEFT, padded to 64": partial(peft.train_step, rows, labels, width=TUTORIAL_WIDTH),
        "PEFT, padded to the batch": partial(peft.train_step, rows, labels, width=0),
    }
    seconds, memory = measured(steps, rounds=rounds)
    results = [_result("training step, encoder-decoder", peer, seconds, memory) for peer in list(steps)[1:]]
    texts: dict[str, Work] = {
        "ours": partial(ours.generate, rows, num_tokens=NEW_TOKENS, num_beams=1),
        "PEFT, generate": partial(peft.generate, rows),
    }
    seconds, memory = measured(texts, rounds=rounds)
    what = f"generation, encoder-decoder, {NEW_TOKENS} tokens"
    return [*results, _result(what, "PEFT, generate", seconds, memory)]


def _result(work: str, peer: str, seconds: dict[str, float], memory: dict[str, float]) -> Result:
    return {
        "work": work,
        "model": "t5-base",
        "method": "prompt_tuning",
        "dtype": "float32",
        "ours_s": seconds["ours"],
        "ours_mb": memory["ours"],
        "peer": f"{peer}, float32",
        "peer_s": seconds[peer],
        "peer_mb": memory[peer],
        "ratio": seconds[peer] / seconds["ours"],
        "memory_ratio": memory[peer] / memory["ours"],
    }
