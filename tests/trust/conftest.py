"""Complete runs of every kind of prompt, on a random model of a few thousand numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.composing import train_config
from tests.running import train_one
from tests.tiny import tiny_model, tiny_tokenizer

Runs = Callable[[str], Path]

LAYOUT = 'prompt.layout="[soft:3]{input}"'
METHODS: dict[str, list[str]] = {
    "prompt_tuning": [LAYOUT],
    "p_tuning": [LAYOUT],
    "p_tuning_lstm": [LAYOUT],
    "prefix_tuning": [LAYOUT],
    "prefix_tuning_projected": [LAYOUT],
    "multitask": [LAYOUT],
    "hard_prompt": ["scoring=contextual"],
    "multitask_target": [LAYOUT, "prompt.source={multitask}"],
    "saved": [LAYOUT, "prompt.path={p_tuning}"],
    "ensemble": [LAYOUT, "prompt.runs=[{prompt_tuning},{prompt_tuning}]"],
}
"""Every way to make a prompt, and its settings; a name in braces is that method's run."""

TEXTS = ["w5 w6", "w7", "w8 w9 w5", "w6 w6", "w9", "w7 w8"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The folder of a method's run, trained once for the session."""
    root = tmp_path_factory.mktemp("trust")
    tiny_model("llama").save_pretrained(root / "model")
    tiny_tokenizer().save_pretrained(root / "model")
    rows = [f"{text},{label}" for text, label in zip(TEXTS, ["yes", "no"] * 3, strict=True)]
    (root / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    done: dict[str, Path] = {}

    def run(method: str) -> Path:
        if method not in done:
            needed = {name: run(name) for name in METHODS if f"{{{name}}}" in str(METHODS[method])}
            own = METHODS[method]
            for name, folder in needed.items():
                own = [setting.replace(f"{{{name}}}", str(folder)) for setting in own]
            done[method] = train_one(train_config(f"prompt={method}", *SHARED, *own, *_places(root))).path
        return done[method]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTCUE_CACHE", str(root / "cache"))
        yield run


SHARED = [
    "backbone=local",
    "backbone.name=tiny",
    "data=table",
    "data.max_length=64",
    'data.instruction="w3 w4"',
    "data.task.name=words",
    'data.task.template="w3 {text} w4"',
    "data.task.classes=[yes,no]",
    "data.task.verbalizer={yes: w11, no: w12}",
    "split=all_labelled",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "callbacks.progress_bar=null",
]


def _places(root: Path) -> list[str]:
    return [
        f"backbone.path={root / 'model'}",
        f"data.source.path={root / 'rows.csv'}",
        f"paths.runs={root / 'runs'}",
        f"paths.cache={root / 'cache'}",
    ]
