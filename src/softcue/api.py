"""The Python interface: `train` a prompt as softcue-train does, and what a trained prompt offers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from softcue import trained
from softcue.backbone.base import Backbone
from softcue.configs import default_cache
from softcue.configs.compose import Composer, config_loader
from softcue.data.frames import Frame, arrow_table, keep, loaded_table
from softcue.data.pool import make_pool, pick_examples
from softcue.data.tables import FORMATS, LoadedTable, read_table
from softcue.data.task import REFERENCES, TextTask
from softcue.errors import ConfigError
from softcue.execute import train as train_runs
from softcue.export.adapter import hub_files
from softcue.export.push import push_folder
from softcue.runs.atomic import staging_folder

_PLAIN = re.compile(r"[\w./-]+")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


class TrainedPrompt(trained.TrainedPrompt):
    """A trained prompt with its record, task and frozen model, which is loaded when it is first needed."""

    def evaluate(
        self, data: str | Path | Frame, *, label_column: str = "label", batch_size: int = 32
    ) -> dict[str, float]:
        """The metrics of `softcue.runs.metrics` on a table's labelled rows, NaN where one is undefined.

        `data` is a file, as `data.source.path` takes it, or a frame with the template's columns. A prompt
        that writes texts reads those to compare with from the columns that its task names.

        Raises:
            SoftcueError: a table that cannot be read, or labels that are none of the task's classes.
        """
        table = _table(data)
        column = None if self.writes_texts else label_column
        picked = pick_examples(table, self.task, id_column=None, label_column=column)
        labelled = [example for example in picked if example.is_labelled]
        pool = make_pool(self.task, labelled=labelled, held_out=None, unlabelled=[], where=table.name)
        rows = list(pool.labelled.rows())
        if self.writes_texts:
            return self._evaluate_texts(rows, batch_size=batch_size)
        targets = [self.task.classes.index(row["label"]) for row in rows]
        return self.predictions(rows, targets=targets, batch_size=batch_size).metrics(self.task.classes)

    def _evaluate_texts(self, rows: Sequence[Mapping[str, str]], *, batch_size: int) -> dict[str, float]:
        references = [json.loads(row[REFERENCES]) for row in rows]
        firsts, targets = [texts[0] for texts in references], [0] * len(rows)
        found = self.predictions(rows, targets=targets, batch_size=batch_size, texts=firsts).metrics(())
        if self.parts.decoding is not None:
            assert isinstance(self.task, TextTask)
            written = self.generated(rows, batch_size, self.decoding)
            found |= written.metrics(references, answer_after=self.task.target.answer_after)
        return found

    def push_to_hub(
        self, repo: str, *, licence: str | None = None, private: bool | None = None, token: str | None = None
    ) -> str:
        """Upload the prompt, its record and a model card to a repository of the hub; return its address.

        The card names the base model, the metrics and `licence`, such as "apache-2.0". A prompt in front
        of the row is a PEFT adapter as well. The repository is made if it does not exist.

        Raises:
            RunError: the hub cannot be reached or refuses, or temporary files cannot be written.
        """
        files = hub_files(self, name=repo.rpartition("/")[2], licence=licence)
        with staging_folder() as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            return push_folder(folder, repo, private=private, token=token)


def load(folder: str | Path, *, task: str | None = None, backbone: Backbone | None = None) -> TrainedPrompt:
    """Read a trained prompt: a run's folder, or one that `softcue-export` or `save` wrote.

    The folder may come from anyone: its content is read as data and checked. A run over several tasks
    has a prompt for each: `task` chooses one. `backbone` is the loaded frozen model, needed only if
    the run used a kind of backbone that is not softcue's own.

    Raises:
        RunError: the folder holds no complete run, no prompt, a damaged or foreign one, or one whose
            task or backbone is of an unknown kind; or `task` is none of the run's.
    """
    prompt = trained.load(folder, task=task, backbone=backbone)
    return TrainedPrompt(**{field.name: getattr(prompt, field.name) for field in fields(prompt)})


def train(
    prompt: str | None = None,
    data: str | Path | Frame | None = None,
    *,
    backbone: str | Path | None = None,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
    **settings: object,
) -> TrainedPrompt:
    """Train a prompt as softcue-train does, and return it with its record.

    `train("p_tuning", "reviews.csv", backbone="smollm2_135m", seed=1)` is the run of `softcue-train
    prompt=p_tuning data=table data.source.path=reviews.csv backbone=smollm2_135m seed=1`, in the same folder:
    it is skipped if it is complete, and resumes if it was interrupted.

    Args:
        prompt: a method, one of softcue's options for `prompt`.
        data: a table's file; a pandas or polars frame, Arrow table, datasets.Dataset, mapping of columns or
            list of rows; the name of a set of the hub, as "stanfordnlp/imdb"; or an option for `data`.
        backbone: an option for `backbone`, a model's folder or GGUF file, or a model of the hub.
        overrides: further settings as on the command line, such as "trainer.max_epochs=3".
        config_dir: a folder of your own options, as `--config-dir` takes it.
        settings: further options and settings by name, such as `split="few_shot"` or
            `**{"trainer.max_epochs": 3}`.

    Raises:
        SoftcueError: a mistake in the settings or the data, or a run that diverged.
        RunBusyError: another process runs it now.
    """
    given = [
        *([] if prompt is None else [override("prompt", prompt)]),
        *_data_overrides(data),
        *_backbone_overrides(backbone),
        *(override(name, value) for name, value in settings.items()),
        *overrides,
    ]
    config = Composer(config_loader(*([] if config_dir is None else [config_dir]))).compose(given)
    if config.dry or config.show or any(config.joint.values()):
        raise ConfigError(
            "softcue.train trains one run and returns it; dry, show and joint are for softcue-train. Leave "
            "them out, and call it once for each seed."
        )
    (run,) = train_runs(config)
    return load(run.path)


def override(name: str, value: object) -> str:
    """A setting as Hydra's command line reads it."""
    return f"{name}={_literal(value)}"


def _literal(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_literal, value)) + "]"
    text = str(value)
    # Numbers and the like need quotes to stay text, and the names of options must have none.
    if _PLAIN.fullmatch(text) and not re.match(r"[\d.+-]|(?i:true|false|null|nan|inf)$", text):
        return text
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def _data_overrides(data: str | Path | Frame | None) -> list[str]:
    if data is None:
        return []
    if _is_file(data):
        return ["data=table", override("data.source.path", data)]
    if isinstance(data, str):
        is_set = _REPOSITORY.fullmatch(data)
        return ["data=hub", override("data.repo", data)] if is_set else [override("data", data)]
    path = keep(arrow_table(data), cache=Path(default_cache()))
    return ["data=table", override("data.source.path", path)]


def _backbone_overrides(backbone: str | Path | None) -> list[str]:
    if backbone is None:
        return []
    if isinstance(backbone, Path) or _is_model(Path(backbone)):
        return ["backbone=local", override("backbone.path", backbone)]
    if _REPOSITORY.fullmatch(backbone):
        return ["backbone=hub", override("backbone.repo", backbone)]
    return [override("backbone", backbone)]


def _is_model(path: Path) -> bool:
    return path.suffix == ".gguf" or (path / "config.json").is_file()


def _is_file(data: object) -> bool:
    if isinstance(data, Path):
        return True
    return isinstance(data, str) and Path(data).suffix.removeprefix(".").lower() in FORMATS


def _table(data: str | Path | Frame) -> LoadedTable:
    if isinstance(data, str | Path):
        return read_table(Path(data))
    return loaded_table(arrow_table(data), name="frame")
