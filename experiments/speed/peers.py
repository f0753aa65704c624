"""PEFT on the benchmark's rows: the tutorial's batch, a batch padded to its longest row, evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from peft import (
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from torch import Tensor
from transformers import PreTrainedModel

TUTORIAL_WIDTH = 64
"""The tutorial pads every row, label included, to 64 tokens."""

CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "prompt_tuning": (PromptTuningConfig, {}),
    "prefix_tuning": (PrefixTuningConfig, {}),
    "p_tuning": (PromptEncoderConfig, {"encoder_hidden_size": 128}),
}


class Peft:
    """A PEFT soft prompt in training or evaluation, on rows of token ids."""

    def __init__(self, model: PreTrainedModel, method: str, *, num_virtual_tokens: int) -> None:
        kind, settings = CONFIGS[method]
        config = kind(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=num_virtual_tokens, **settings)
        self.model = cast(PeftModel, get_peft_model(model, config))
        self.device = model.device
        self.model.eval()
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=1e-3)

    def train_step(
        self,
        rows: Sequence[list[int]],
        labels: Sequence[tuple[int, ...]],
        *,
        pad: Literal["tutorial", "batch"],
    ) -> float:
        """Loss on the label tokens, backward, update."""
        full = [row + list(label) for row, label in zip(rows, labels, strict=True)]
        width = max(TUTORIAL_WIDTH if pad == "tutorial" else 0, *(len(row) for row in full))
        ids, mask = self._left_padded(full, width)
        targets = torch.full_like(ids, -100)
        for at, label in enumerate(labels):
            targets[at, -len(label) :] = torch.tensor(label, device=self.device)
        self.optimizer.zero_grad()
        loss = self.model(input_ids=ids, attention_mask=mask, labels=targets).loss
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def generate(
        self,
        rows: Sequence[list[int]],
        *,
        num_tokens: int = 10,
        num_beams: int = 1,
        pad: Literal["tutorial", "batch"] = "tutorial",
    ) -> None:
        """So many tokens after each row; by default the tutorial's evaluation."""
        width = max(TUTORIAL_WIDTH if pad == "tutorial" else 0, *(len(row) for row in rows))
        ids, mask = self._left_padded(rows, width)
        self.model.generate(  # type: ignore[no-untyped-call]
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=num_tokens,
            num_beams=num_beams,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )

    @torch.no_grad()
    def score_each_class(self, rows: Sequence[list[int]], choices: Sequence[tuple[int, ...]]) -> None:
        """Score every class's label with a full forward of every row."""
        for label in choices:
            full = [row + list(label) for row in rows]
            ids, mask = self._left_padded(full, max(len(row) for row in full))
            logits = self.model(input_ids=ids, attention_mask=mask).logits[:, -len(label) - 1 : -1]
            logits.float().log_softmax(dim=-1)[..., list(label)].sum()

    def _left_padded(self, rows: Sequence[list[int]], width: int) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return ids.to(self.device), mask.to(self.device)
