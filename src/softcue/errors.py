"""The exceptions that a user can meet. Each message names the value, the limit and the way out."""

from __future__ import annotations

from collections.abc import Collection


class SoftcueError(Exception):
    """A mistake that the user can correct; entry points print its message without a stack trace."""


class ConfigError(SoftcueError):
    """Settings that contradict each other or are out of range."""


class LayerError(ConfigError):
    """A prompt is to enter at a layer that the model does not have."""

    def __init__(self, *, setting: str, layer: int, backbone: str, num_layers: int) -> None:
        super().__init__(
            f"{setting} is {layer}, and backbone {backbone} has {num_layers} layers: choose one from 0 to "
            f"{num_layers - 1}, or null for the middle."
        )


class TemplateError(SoftcueError):
    """A template or layout from which no rows can be made."""


class DataError(SoftcueError):
    """A table, label or split that cannot be used."""


class BackboneError(SoftcueError):
    """A frozen model that cannot be found, read or run."""


class TrainingError(SoftcueError):
    """A run that cannot continue."""


class RunError(SoftcueError):
    """A run folder or record that cannot be written or read."""


class RunBusyError(RunError):
    """A run that is in progress in another process."""


class PrunedError(TrainingError):
    """A trial that a search has pruned."""


def listed(names: Collection[object], *, limit: int = 5) -> str:
    """The first few of many names, and the number of the others, for a message."""
    shown = list(names)[:limit]
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else str(shown)


def printable(text: str) -> str:
    """Text with every control character written out, as in "\\x1b", so that data cannot change a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def note_log(error: BaseException, log: object) -> None:
    """Note on an exception that this log has its stack."""
    vars(error).setdefault(_LOGS, []).append(str(log))


def logs_of(error: BaseException) -> list[str]:
    """The logs that have the exception's stack."""
    logs: list[str] = vars(error).get(_LOGS, [])
    return logs


_LOGS = "softcue_logs"
