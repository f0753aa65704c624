"""Complete runs of every kind of prompt, on a random model of a few thousand numbers."""

from __future__ import annotations

from pathlib import Path

from tests.composing import train_config
from tests.running import train_one
from tests.tiny import tiny_model, tiny_tokenizer

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

_SHARED = [
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


class TinyRuns:
    """The folder of a method's run under `root`, trained when it is first asked for."""

    def __init__(self, root: Path) -> None:
        tiny_model("llama").save_pretrained(root / "model")
        tiny_tokenizer().save_pretrained(root / "model")
        rows = [f"{text},{label}" for text, label in zip(TEXTS, ["yes", "no"] * 3, strict=True)]
        (root / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
        self._places = [
            f"backbone.path={root / 'model'}",
            f"data.source.path={root / 'rows.csv'}",
            f"paths.runs={root / 'runs'}",
            f"paths.cache={root / 'cache'}",
        ]
        self._done: dict[str, Path] = {}

    def __call__(self, method: str) -> Path:
        if method not in self._done:
            own = METHODS[method]
            for name in METHODS:
                if f"{{{name}}}" in str(own):
                    own = [setting.replace(f"{{{name}}}", str(self(name))) for setting in own]
            config = train_config(f"prompt={method}", *_SHARED, *own, *self._places)
            self._done[method] = train_one(config).path
        return self._done[method]
