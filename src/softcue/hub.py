"""Files of the Hugging Face hub: from its cache, or fetched, checked and kept there.

The hub's own client retries for minutes, and what it raises depends on its version. Here every fault ends
within half a minute as a HubError, whose sentence names the cause.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Generic, Literal, TypeVar

from huggingface_hub import constants, get_session, get_token, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    FileMetadataError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of httpx or httpx2, whichever this hub client uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils.tqdm import tqdm

from softcue.errors import SoftcueError

T = TypeVar("T")
Kind = Literal["model", "dataset"]

ANSWER_S = 6.0
"""Seconds in which the hub must answer."""
STALL_S = 20.0
"""Seconds without a byte, after which a download ends."""
BACKOFF_S = 1.0
"""Seconds before the one repetition of a request that failed in passing."""
TRANSIENT = (408, 429, 500, 502, 503, 504)


class HubError(SoftcueError):
    """A file that the hub does not give: a clause without a full stop, before the caller's way out."""


@dataclass(frozen=True, kw_only=True)
class HubRepo:
    """A repository at a revision."""

    name: str
    kind: Kind
    revision: str

    def cached(self, file: str) -> Path | None:
        """A file's place in the local cache; None if it is not there.

        Raises:
            HubError: no repository can have this name.
        """
        try:
            found = try_to_load_from_cache(self.name, file, revision=self.revision, repo_type=self.kind)
        except HFValidationError as error:
            raise HubError(f"{self.name} is no repository's name: {error}") from error
        return Path(found) if isinstance(found, str) else None

    def names(self) -> list[str]:
        """The names of the repository's files; raises as `fetch` does."""
        return _Watched(lambda _: self._names()).result(self)

    def fetch(self, choose: Callable[[Sequence[str]], Sequence[str]]) -> list[Path]:
        """Fetch those of the repository's files that `choose` selects by name, in its order.

        Raises:
            HubError: the hub does not give them, or there is no room for them.
        """
        return _Watched(lambda watched: self._fetch(choose, watched)).result(self)

    def _fetch(self, choose: Callable[[Sequence[str]], Sequence[str]], watched: _Watched[Any]) -> list[Path]:
        names = self._names()
        watched.show_life()

        class Pulse(tqdm):
            """The client's progress bar, which also tells that bytes arrive that have not arrived before."""

            received = highest = 0.0

            def update(self, n: float | None = 1) -> bool | None:
                watched.expect_waiting()
                self.received += n or 0
                if self.received > self.highest:
                    self.highest = self.received
                    watched.show_life()
                refreshed: bool | None = super().update(n)
                return refreshed

        paths = []
        for name in choose(names):
            if (path := self.cached(name)) is None:
                path = Path(
                    hf_hub_download(
                        self.name,
                        name,
                        repo_type=self.kind,
                        revision=self.revision,
                        etag_timeout=ANSWER_S,
                        tqdm_class=Pulse,
                    )
                )
                _expect_content(path)
            watched.show_life()
            paths.append(path)
        return paths

    def _names(self) -> list[str]:
        """The names of the repository's files."""
        revision = self.revision.replace("/", "%2F")
        url = f"{constants.ENDPOINT}/api/{self.kind}s/{self.name}/revision/{revision}"
        response = _get(url)
        if response.status_code != 200:
            raise HubError(_refusal(response.status_code, response.headers.get("X-Error-Code", ""), self))
        try:
            return [file["rfilename"] for file in response.json()["siblings"]]
        except (ValueError, KeyError, TypeError) as error:
            raise HubError(
                f"{constants.ENDPOINT} answers with something else than the hub's listing of {self.name}, as "
                "the login page of a network does: open it in a browser, or check HF_ENDPOINT and the proxy"
            ) from error


def _get(url: str) -> Any:
    """The answer to a request; one that fails in passing is repeated once."""

    def ask() -> Any:
        # The client's own headers would ask the hub for something else first.
        headers = {"authorization": f"Bearer {token}"} if (token := get_token()) else {}
        return get_session().get(url, headers=headers, timeout=ANSWER_S, follow_redirects=True)

    try:
        response = ask()
        if response.status_code not in TRANSIENT:
            return response
    except HTTPError:
        pass
    time.sleep(BACKOFF_S)
    return ask()


def _refusal(status: int, code: str, repo: HubRepo) -> str:
    """What the hub's refusal means, from its status and error code."""
    where = f"{constants.ENDPOINT} (status {status})"
    if code == "GatedRepo" or status == 403:
        return (
            f"{where} gives {repo.name} only to those who have accepted its terms: accept them on its page, "
            "and log in with `hf auth login`"
        )
    if code == "RevisionNotFound":
        return f"{where} has no revision {repo.revision} of {repo.name}: check the revision"
    if code == "EntryNotFound":
        return f"{where} has not all files of {repo.name} that are needed: check the name"
    if status in (401, 404):
        return (
            f"{where} has no {repo.kind} {repo.name}, or not for everyone: check its name, or log in with "
            "`hf auth login`"
        )
    if status == 429:
        return f"{where} has had too many requests from here: wait a few minutes and start again"
    return f"{where} cannot give {repo.name} now: start again later"


def _expect_content(path: Path) -> None:
    """Compare a file with the digest that names it in the cache, and remove it if they differ."""
    blob = path.resolve()
    with blob.open("rb") as file:
        if len(blob.name) == 64:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        elif len(blob.name) == 40:  # as git names a file
            content = file.read()
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        else:
            return
    if digest != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise HubError(
            f"{constants.ENDPOINT} sent another content for {path.name} than it announced, which was "
            "removed: start again, or check the proxy"
        )


@dataclass
class _Watched(Generic[T]):
    """A task in a thread of its own, which is left alone once it shows no sign of life."""

    task: Callable[[_Watched[T]], T]
    seen: float = field(default_factory=time.monotonic)
    done: list[T] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    is_abandoned: bool = False

    def result(self, repo: HubRepo) -> T:
        """What the task returns; HubError if it raises or stalls."""
        thread = Thread(target=self._run, name="softcue-hub", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.05)
            if time.monotonic() - self.seen > STALL_S:
                self.is_abandoned = True
                raise HubError(
                    f"{constants.ENDPOINT} has sent nothing new of {repo.name} for {STALL_S:g} seconds"
                )
        for error in self.errors:
            if isinstance(error, (OSError, HTTPError)):
                raise HubError(_cause(error, repo)) from error
            raise error
        return self.done[0]

    def show_life(self) -> None:
        """Note that the task advances."""
        self.seen = time.monotonic()

    def expect_waiting(self) -> None:
        """End a task for which nobody waits any more."""
        if self.is_abandoned:
            raise HubError("nobody waits for this any more")

    def _run(self) -> None:
        try:
            self.done.append(self.task(self))
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            self.errors.append(error)


def _cause(error: Exception, repo: HubRepo) -> str:
    """One sentence, without its way out, for an exception of the hub's client."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    kind, hub = type(error).__name__, constants.ENDPOINT
    if isinstance(error, OfflineModeIsEnabled):
        return f"{hub} is not asked for {repo.name}, as HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):
        code = error.response.headers.get("X-Error-Code", "")
        return _refusal(error.response.status_code, code, repo)
    if isinstance(error, FileMetadataError):
        return (
            f"{hub} does not answer as the hub does ({_first_line(error)}): check HF_ENDPOINT and the proxy"
        )
    if isinstance(error, HTTPError):
        what = "does not answer in time" if "Timeout" in kind else "cannot be reached"
        return f"{hub} {what} for {repo.name} ({kind}: {_first_line(error)})"
    if isinstance(error, OSError) and error.errno is not None:
        return (
            f"{repo.name} cannot be kept in {constants.HF_HUB_CACHE} ({error.strerror}): free space there, "
            "or name another folder in HF_HOME"
        )
    return f"{hub} sent {repo.name} incompletely ({_first_line(error)}): start again"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or "no reason given"
