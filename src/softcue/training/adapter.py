"""An adapter of the model's weights as a learner: the training of a prompt, on a prompt of no tokens."""

from __future__ import annotations

from typing import cast

from softcue.baselines.adapters import Injected
from softcue.runs.atomic import write_atomic
from softcue.runs.record import Parameters, Training
from softcue.runs.store import RunFolder
from softcue.training.prompt_learner import PromptLearner


class AdapterLearner(PromptLearner):
    """Trains an adapter inside the frozen model, which `close` leaves as it was."""

    @property
    def adapter(self) -> Injected:
        """The adapter, whose parameters are the member's."""
        return cast(Injected, self.member.prompt)

    @property
    def parameters(self) -> Parameters:
        count = sum(parameter.numel() for parameter in self.adapter.parameters())
        return Parameters(trainable=count, shipped=count, total=self.lm.spec.num_parameters + count)

    def restore(self, folder: RunFolder, training: Training) -> None:
        self.adapter.load(folder.path)
        self.steps = training.steps

    def save(self, folder: RunFolder) -> None:
        for name, content in self.adapter.files().items():
            write_atomic(folder.path / name, content)

    def close(self, *, failed: bool) -> None:
        super().close(failed=failed)
        self.adapter.remove()
