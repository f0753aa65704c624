"""Multitask prompt tuning (MPT, Wang et al. 2023, arXiv 2303.02861, section 3).

A shared prompt times a low-rank matrix for each task. Equation 1: task k's prompt is P* ∘ W_k with
W_k = u_k ⊗ v_k; here of any rank, as a product of [P, r] and [r, D]. W_k is initialised to ones, so that
every task starts from the shared prompt. Small random factors, as in other implementations, would scale the
initial prompt close to zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.errors import ConfigError
from softcue.formats.prompt_file import load_extra_state
from softcue.prompts.initialisers import Initialiser

Start = Literal["average", "fresh"]
COLUMN_STD = 0.02
"""Standard deviation of the columns beyond the first; the rows beyond the first start at zero."""


class MultitaskPrompt(SoftPrompt):
    """One prompt for each of T tasks: P D shared parameters, and r (P + D) for each task.

    `task_learning_rate` applies to the tasks' factors; None: the optimizer's own rate.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        tasks: Sequence[str],
        rank: int,
        task_learning_rate: float | None,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ConfigError(f"prompt.method.rank is {rank}; set it to 1 or more.")
        self.task_learning_rate = task_learning_rate
        shared_PD = initialiser.vectors(
            spec, num_tokens=num_virtual_tokens, width=spec.hidden_size, generator=generator
        )
        task_cols_TPr = torch.randn(len(tasks), num_virtual_tokens, rank, generator=generator) * COLUMN_STD
        task_cols_TPr[:, :, 0] = 1.0
        task_rows_TrD = torch.zeros(len(tasks), rank, spec.hidden_size)
        task_rows_TrD[:, 0] = 1.0
        self.shared_PD = nn.Parameter(shared_PD)
        self.task_cols_TPr = nn.Parameter(task_cols_TPr)
        self.task_rows_TrD = nn.Parameter(task_rows_TrD)

    def forward(self) -> PromptBank:
        return PromptBank(embeddings_TPD=self.shared_PD * (self.task_cols_TPr @ self.task_rows_TrD))

    def parameter_groups(self) -> list[dict[str, Any]]:
        own: dict[str, Any] = {"params": [self.task_cols_TPr, self.task_rows_TrD]}
        if self.task_learning_rate is not None:
            own["lr"] = self.task_learning_rate
        return [{"params": [self.shared_PD]}, own]

    def extra_state(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.named_parameters()}


class MultitaskTarget(MultitaskPrompt):
    """A new task's prompt from a multitask run (section 3.3): P D + r (P + D) parameters.

    It is the run's shared prompt times W. W starts from the average of the source tasks' factors, or, with
    start="fresh", as ones.

    Raises:
        ConfigError: the source is not a multitask run, or its shapes differ.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        tasks: Sequence[str],
        rank: int,
        task_learning_rate: float | None,
        source: str,
        start: Start,
    ) -> None:
        super().__init__(
            spec=spec,
            num_virtual_tokens=num_virtual_tokens,
            generator=generator,
            initialiser=initialiser,
            tasks=tasks,
            rank=rank,
            task_learning_rate=task_learning_rate,
        )
        if start not in get_args(Start):
            raise ConfigError(f"prompt.method.start is {start!r}; choose {' or '.join(get_args(Start))}.")
        factors = load_extra_state(Path(source) / "prompt.safetensors")
        self._expect_same_shape(factors, source)
        with torch.no_grad():
            self.shared_PD.copy_(factors["shared_PD"])
            if start == "average":
                self.task_cols_TPr.copy_(factors["task_cols_TPr"].mean(dim=0, keepdim=True))
                self.task_rows_TrD.copy_(factors["task_rows_TrD"].mean(dim=0, keepdim=True))

    def _expect_same_shape(self, factors: dict[str, Tensor], source: str) -> None:
        if factors.keys() != {name for name, _ in self.named_parameters()}:
            raise ConfigError(
                f"prompt.source={source} holds no shared prompt; give a run of prompt=multitask, or start "
                "from another prompt with prompt/initialiser=saved."
            )
        for name, parameter in self.named_parameters():
            if factors[name].shape[-2:] != parameter.shape[-2:]:
                raise ConfigError(
                    f"prompt.source={source} has {name} of {tuple(factors[name].shape)}, and this run of "
                    f"{tuple(parameter.shape)}; give the source's own layout, rank and backbone."
                )
