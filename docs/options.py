"""Write options.md: every group of settings, its options, and the line that opens each option's YAML."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from softcue.configs import CONFIG_PATH
from softcue.configs.groups import GROUPS, claim, options

PAGE = Path(__file__).with_name("options.md")
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
        about_option = claim(path).replace("|", "\\|")
        rows.append(f"| {shown} | {about_option} |")
    return "\n".join([f"## {group}", "", about, "", "| option | what it is |", "|---|---|", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
