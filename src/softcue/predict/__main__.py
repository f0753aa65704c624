"""`softcue-predict`: the class of every row of a table of any size, and the probability of each class."""

from __future__ import annotations

import os
import sys

from omegaconf import DictConfig, OmegaConf

from softcue.cli import hydra_app
from softcue.predict.command import predict_table
from softcue.predict.settings import PredictSettings


@hydra_app("predict")
def main(settings: DictConfig) -> None:
    """Predict the class of every row of a table."""
    try:
        predict_table(PredictSettings.of(OmegaConf.to_container(settings, throw_on_missing=True)))
    except BrokenPipeError as error:
        # The reader of stdout closed the pipe, as `head` does: end in silence, as other programs do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from error


if __name__ == "__main__":
    main()
