"""Write options.md: every group of settings, its options, and the line that opens each option's YAML."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from softcue.configs import CONFIG_PATH

PAGE = Path(__file__).with_name("options.md")
GROUPS = {
    "backbone": "The frozen language model.",
    "data": "The task: where its rows come from, its template, classes and label words.",
    "split": "Which rows train, validate and test.",
    "prompt": "The method.",
    "prompt/initialiser": "The vectors that a prompt starts from.",
    "objective": "The training loss.",
    "scoring": "How the likelihoods of label words become class scores.",
    "optimizer": "The update rule.",
    "scheduler": "The learning rate over the steps, with an optional warm-up.",
    "trainer": "Lightning's Trainer: epochs, device, precision.",
    "callbacks": "What happens during training: progress bar, saved state, early stopping.",
    "logger": "One, or several as `logger=[csv,wandb]`.",
    "sweep": "Ready sweeps, for `softcue-train -m`.",
    "experiment": "Ready choices over several groups.",
    "debug": "For a first look.",
    "hydra/sweeper": "How a sweep chooses its jobs; the ready sweeps choose one themselves.",
    "chain": "Stages of training, for `softcue-chain`.",
}
TITLE = """# Options

Every group of settings and its options, chosen as `group=option`; defaults are in bold. Each option is a YAML
file under `conf/`, which shows its settings. This page is generated from those files by `make docs`.
"""


def page() -> str:
    """The page, a table for each group."""
    composed = OmegaConf.to_container(OmegaConf.load(CONFIG_PATH / "train.yaml"))
    assert isinstance(composed, dict)
    entries = [entry for entry in composed["defaults"] if isinstance(entry, dict)]
    chosen = {f"{group}={name}" for entry in entries for group, name in entry.items()}
    return "\n".join([TITLE, *(_group(group, about, chosen) for group, about in GROUPS.items())])


def _group(group: str, about: str, chosen: set[str]) -> str:
    rows = []
    for name, path in options(group).items():
        shown = f"**`{name}`**" if f"{group}={name}" in chosen else f"`{name}`"
        rows.append(f"| {shown} | {_claim(path)} |")
    return "\n".join([f"## {group}", "", about, "", "| option | what it is |", "|---|---|", *rows, ""])


def options(group: str) -> dict[str, Path]:
    """The YAML files of a group by the names that choose them; those of a subfolder are of that group."""
    files = {path.stem: path for path in sorted((CONFIG_PATH / group).glob("[!_]*.yaml"))}
    if group == "prompt":
        baselines = sorted((CONFIG_PATH / group / "baseline").glob("*.yaml"))
        files |= {f"baseline/{path.stem}": path for path in baselines}
    return files


def _claim(path: Path) -> str:
    """The comment that opens the file, up to the first line that is none."""
    words = []
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            break
        words.append(line.removeprefix("# "))
    return " ".join(word for word in words if not word.startswith("@package")).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
