"""Adapters of the model's own weights, LoRA and IA3, trained by PEFT's modules in softcue's loop.

PEFT is imported where it is used: it is an extra, and takes seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from softcue.baselines.base import Baseline
from softcue.contracts import PromptBank, SoftPrompt
from softcue.errors import ConfigError
from softcue.runs.atomic import staging_folder

FILES = ("adapter_config.json", "adapter_model.safetensors")
"""The files of an adapter's folder, as PEFT names them."""


class Injected(SoftPrompt):
    """An adapter inside a model, as a prompt of no virtual tokens whose parameters are the adapter's.

    The model computes with it until `remove`, which leaves the model as it was.
    """

    def __init__(self, model: PreTrainedModel, config: Any, *, seed: int) -> None:
        from peft import get_peft_model

        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                wrapped = get_peft_model(model, config)
            except ValueError as error:
                raise ConfigError(
                    f"PEFT cannot change {type(model).__name__}: {' '.join(str(error).split())} Name its "
                    "modules in prompt.method.modules."
                ) from error
        # No submodule: the frozen model is neither saved nor trained nor moved with the adapter.
        self._peft = (wrapped,)
        wrapped.eval()
        self.weights = nn.ParameterList(p for p in wrapped.parameters() if p.requires_grad)

    def forward(self) -> PromptBank:
        return PromptBank()

    def files(self) -> dict[str, bytes]:
        """The adapter's folder, as `PeftModel.from_pretrained` reads it; RunError without room for it."""
        with staging_folder() as folder:
            self._peft[0].save_pretrained(folder)
            return {name: (folder / name).read_bytes() for name in FILES}

    def load(self, folder: Path) -> None:
        """Take the weights of an adapter that `files` gave."""
        from peft import load_peft_weights, set_peft_model_state_dict

        device = str(self.weights[0].device)
        set_peft_model_state_dict(self._peft[0], load_peft_weights(str(folder), device=device))

    def remove(self) -> None:
        """Take the adapter out of the model."""
        model = self._peft[0].unload()
        vars(model).pop("peft_config", None)  # which some versions of PEFT leave


class Adapter(Baseline, ABC):
    """A change of some of the model's modules, which are named as PEFT names them; None: PEFT's choice."""

    def __init__(self, *, modules: list[str] | None) -> None:
        self.modules = None if modules is None else list(modules)

    @abstractmethod
    def config(self, task_type: str) -> Any:
        """PEFT's own config, for its name of a kind of models."""

    def inject(self, model: PreTrainedModel, *, base_model: str, seed: int) -> Injected:
        """Put an untrained adapter into a model.

        Raises:
            ConfigError: PEFT is not installed, or cannot change these modules.
        """
        try:
            config = self.config("SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM")
        except ImportError as error:
            raise ConfigError(
                "this baseline trains through PEFT, which is not installed: pip install 'softcue[peft]'."
            ) from error
        injected = Injected(model, config, seed=seed)
        cast(Any, config).base_model_name_or_path = base_model
        return injected


class LoRA(Adapter):
    """Low-rank changes of weight matrices (Hu et al. 2021), scaled by alpha / rank, without dropout."""

    def __init__(self, *, rank: int, alpha: int, modules: list[str] | None) -> None:
        super().__init__(modules=modules)
        self.rank, self.alpha = rank, alpha

    def config(self, task_type: str) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            task_type=task_type, r=self.rank, lora_alpha=self.alpha, target_modules=self.modules
        )


class IA3(Adapter):
    """Learned scales of keys, values and feed-forward activations (Liu et al. 2022).

    `feedforward` are those of `modules` whose input is scaled, not their output.
    """

    def __init__(self, *, modules: list[str] | None, feedforward: list[str] | None) -> None:
        super().__init__(modules=modules)
        self.feedforward = None if feedforward is None else list(feedforward)

    def config(self, task_type: str) -> Any:
        from peft import IA3Config

        return IA3Config(
            task_type=task_type, target_modules=self.modules, feedforward_modules=self.feedforward
        )
