"""A folder to a repository of the hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of httpx or httpx2, whichever this hub client uses
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from softcue.errors import RunError


def push_folder(folder: Path, repo: str, *, private: bool | None, token: str | None) -> str:
    """Upload a folder's files in one commit, into a repository that is made if need be; its address.

    Raises:
        RunError: the hub cannot be reached or refuses.
    """
    hub = HfApi(token=token)
    try:
        address = hub.create_repo(repo, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=repo, folder_path=folder, commit_message="Upload a soft prompt with softcue"
        )
    except (
        *(HTTPError, HfHubHTTPError, HFValidationError),
        *(LocalTokenNotFoundError, OfflineModeIsEnabled),
    ) as error:
        raise RunError(
            f"{repo} cannot be pushed to {constants.ENDPOINT} ({type(error).__name__}: "
            f"{' '.join(str(error).split()):.200}); check the name, the connection and `hf auth login`."
        ) from error
    return str(address)
