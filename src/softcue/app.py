"""softcue-train: train one run, or several jointly. Also `python -m softcue.app`."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

import softcue
from softcue.cli import hydra_app, print_error
from softcue.configs.compose import expect_command_read
from softcue.configs.options import expect_options, without_null_groups
from softcue.errors import ConfigError


def main() -> None:
    """Run the command; `--help`, `--help-all` and `--version` need no composed settings."""
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments or "--help-all" in arguments:
        from softcue.configs.help import full_help, short_help

        print(full_help() if "--help-all" in arguments else short_help())
    elif "--version" in arguments:
        print(f"softcue {softcue.__version__}")
    else:
        try:
            expect_options(arguments)
            sys.argv[1:] = without_null_groups(arguments)
        except ConfigError as error:
            raise print_error(error) from error
        run()


@hydra_app("train")
def run(config: DictConfig) -> None:
    """The Hydra app."""
    expect_command_read(config)
    # Not above: torch and Lightning take seconds to import, and a mistake needs neither.
    from softcue.execute import train

    train(config)


if __name__ == "__main__":
    main()
