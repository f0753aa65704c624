"""softcue-train: train one run, or several jointly. Also `python -m softcue.app`."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.configs.compose import expect_command_read


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="train")
@run_app
def main(config: DictConfig) -> None:
    """The Hydra app."""
    expect_command_read(config)
    # Not above: torch and Lightning take seconds to import, and `--help` needs neither.
    from softcue.execute import train

    train(config)


if __name__ == "__main__":
    main()
