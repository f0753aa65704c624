"""The batches of runs that train jointly, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from lightning import LightningDataModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader

from softcue.data.collate import Example
from softcue.data.order import LoopPosition
from softcue.data.run_data import RunData
from softcue.errors import ConfigError


class JointData(LightningDataModule):
    """The rows of one run or several as batches for `PromptModule`.

    Raises:
        ConfigError: runs with different numbers of training batches.
    """

    def __init__(self, runs: Sequence[RunData]) -> None:
        super().__init__()
        self.runs = runs
        counts = [len(run.train_dataloader()) for run in runs]
        if len(set(counts)) > 1:
            raise ConfigError(
                f"runs that train jointly have {counts} training batches; they need the same number. "
                "Give them the same split.num_train and data.batch_size."
            )

    def train_dataloader(self) -> CombinedLoader:
        trainer = cast(Trainer, self.trainer)
        start = LoopPosition(
            epoch=trainer.current_epoch,
            batches=trainer.fit_loop.epoch_loop.batch_progress.current.completed,
            rank=trainer.global_rank,
            num_processes=trainer.world_size,
        )
        return CombinedLoader([run.train_dataloader(start) for run in self.runs], "min_size")

    def val_dataloader(self) -> list[DataLoader[Example]]:
        return [loader for run in self.runs for loader in run.val_dataloaders()]
