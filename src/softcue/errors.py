"""The few exceptions a user can meet. Each message names the value, the limit and the way out."""


class SoftcueError(Exception):
    """Anything the user can mend; entry points print its message without a stack trace."""


class ConfigError(SoftcueError):
    """Settings that do not fit together."""


class TemplateError(SoftcueError):
    """A template or layout that cannot make rows."""


class DataError(SoftcueError):
    """A table, label or split that cannot be used."""


class BackboneError(SoftcueError):
    """A frozen model that cannot be had, read or run."""


class TrainingError(SoftcueError):
    """A run that cannot go on."""


class RunError(SoftcueError):
    """A run folder or record that cannot be written or read."""


class RunBusyError(RunError):
    """A run that another process is running."""


class PrunedError(TrainingError):
    """A trial that a search has given up, as others do better."""
