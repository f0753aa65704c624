"""softcue: its version, and its commands. Also `python -m softcue`."""

from __future__ import annotations

import sys

import softcue

COMMANDS = {
    "softcue-train": "train prompts, one run or a sweep",
    "softcue-data": "write the YAML of a task from your own table",
    "softcue-predict": "the class of every row of a table",
    "softcue-report": "compare runs in one table",
    "softcue-watch": "follow a sweep while it runs",
    "softcue-inspect": "nearest words, norms and attention of a prompt",
    "softcue-prompts": "which trained prompts are nearest to one",
    "softcue-export": "a prompt as a PEFT adapter with a model card",
    "softcue-chain": "stages of training, one after another",
}


def main() -> None:
    """Print the version, and without `--version` the commands too."""
    print(f"softcue {softcue.__version__}")
    if "--version" not in sys.argv[1:]:
        print("\n".join(f"  {name:<16} {about}" for name, about in COMMANDS.items()))
        print("Each shows its settings with --help.")


if __name__ == "__main__":
    main()
