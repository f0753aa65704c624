"""The exceptions that a user can meet. Each message names the value, the limit and the way out."""


class SoftcueError(Exception):
    """A mistake that the user can correct; entry points print its message without a stack trace."""


class ConfigError(SoftcueError):
    """Settings that contradict each other or are out of range."""


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
