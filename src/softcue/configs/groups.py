"""The groups of settings, what each is for, and their options."""

from __future__ import annotations

from pathlib import Path

from softcue.configs import CONFIG_PATH

GROUPS = {
    "backbone": "The frozen language model.",
    "data": "The task: its rows, template, classes and words.",
    "decoding": "How text is generated, as `decoding@data.decoding=beam`.",
    "split": "Which rows train, validate and test.",
    "prompt": "The method.",
    "prompt/initialiser": "The vectors that a prompt starts from.",
    "objective": "The training loss.",
    "scoring": "How the likelihoods of label words become class scores.",
    "optimizer": "The update rule.",
    "scheduler": "The learning rate over the steps, with an optional warm-up.",
    "trainer": "Lightning's Trainer: epochs, device, precision.",
    "callbacks": "During training: progress bar, saved state, early stopping.",
    "logger": "One, or several as `logger=[csv,wandb]`.",
    "sweep": "Ready sweeps, for `softcue-train -m`.",
    "experiment": "Ready choices over several groups.",
    "debug": "For a first look.",
    "hydra/sweeper": "How a sweep chooses its jobs; the ready sweeps choose one themselves.",
    "chain": "Stages of training, for `softcue-chain`.",
    "report": "What `softcue-report` shows.",
}


def options(group: str) -> dict[str, Path]:
    """The YAML files of a group by the names that choose them; those of a subfolder are of that group."""
    files = {path.stem: path for path in sorted((CONFIG_PATH / group).glob("[!_]*.yaml"))}
    if group == "prompt":
        baselines = sorted((CONFIG_PATH / group / "baseline").glob("*.yaml"))
        files |= {f"baseline/{path.stem}": path for path in baselines}
    return files


def claim(path: Path) -> str:
    """The comment that opens the file, up to the first line that is none."""
    words = []
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            break
        words.append(line.removeprefix("# "))
    return " ".join(word for word in words if not word.startswith("@package"))
