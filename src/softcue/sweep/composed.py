"""A composed config into which the values of many jobs are put, without asking OmegaConf each time.

Resolving the thirty interpolations of a config takes a hundredth of a second, of which a sweep of a
thousand jobs would notice ten seconds. Most do not depend on what the sweep varies, and the others are
plain references, such as `split.seed: ${seed}`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_RELATIVE = re.compile(r"\$\{(\.+)([\w.]+)")
_NAMES = re.compile(r"[\w.]+")


@dataclass(frozen=True, kw_only=True)
class Composed:
    """What was composed, resolved, and the references that follow the varied values.

    `links` are pairs of a setting and the setting it repeats; None where one is more than a reference,
    so that OmegaConf has to be asked.
    """

    config: DictConfig
    resolved: bytes
    links: tuple[tuple[str, str], ...] | None

    @classmethod
    def of(cls, config: DictConfig, varied: Sequence[str]) -> Composed:
        """For jobs that set the `varied` paths; they must be in the config already."""
        raw = OmegaConf.to_container(config, resolve=False)
        try:
            resolved = OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException:
            # Something is missing: let OmegaConf say what.
            return cls(config=config, resolved=b"", links=None)
        return cls(
            config=config,
            resolved=pickle.dumps(resolved),
            links=_links(dict(_texts(raw)), varied),
        )

    def with_values(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The resolved settings with these values, by path; None if OmegaConf has to be asked."""
        if self.links is None or any("${" in str(value) for value in values.values()):
            return None
        settings = cast(dict[str, Any], pickle.loads(self.resolved))
        for path, value in values.items():
            _put(settings, path, value)
        # A reference may be to a setting that is itself one.
        for _ in self.links:
            before = [_get(settings, path) for path, _ in self.links]
            for path, source in self.links:
                _put(settings, path, _get(settings, source))
            if before == [_get(settings, path) for path, _ in self.links]:
                break
        return settings


def _texts(node: object, above: str = "") -> Iterator[tuple[str, str]]:
    """Every setting that interpolates, by its path."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{above}.{key}" if above else str(key))
    elif isinstance(node, list):
        for at, value in enumerate(node):
            yield from _texts(value, f"{above}.{at}")
    elif isinstance(node, str) and "${" in node:
        yield above, _RELATIVE.sub(lambda found: _absolute(found[1], found[2], above), node)


def _absolute(dots: str, name: str, path: str) -> str:
    """A relative reference from its root: one dot is the setting's own mapping, two the one above."""
    return "${" + ".".join([*path.split(".")[: -len(dots)], name])


def _links(texts: Mapping[str, str], varied: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    following: dict[str, str] = {}
    moved = list(varied)
    while moved:
        now, moved = moved, []
        for path, text in texts.items():
            touched = any(_meet(name, one) for name in _NAMES.findall(text) for one in now)
            if touched and path not in following:
                following[path] = text
                moved.append(path)
    references = {path: _REFERENCE.fullmatch(text) for path, text in following.items()}
    if any(match is None for match in references.values()):
        return None
    if any(_meet(path, one) for path in following for one in varied):
        return None
    return tuple((path, match[1]) for path, match in references.items() if match is not None)


def _meet(one: str, other: str) -> bool:
    """Whether one path is the other, or holds it, or is held by it."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _get(settings: Any, path: str) -> Any:
    for key in path.split("."):
        settings = settings[int(key)] if isinstance(settings, list) else settings[key]
    return settings


def _put(settings: Any, path: str, value: Any) -> None:
    above, _, last = path.rpartition(".")
    holder = _get(settings, above) if above else settings
    if isinstance(holder, list):
        holder[int(last)] = value
    else:
        holder[last] = value
