"""Push a folder to a Hugging Face hub: started as a process of its own by annotate/services/publications.py, so that it can be stopped.

python -m annotate.hub FOLDER OWNER/NAME private|public MESSAGE

The token and the hub's address come by the environment (HF_TOKEN, HF_ENDPOINT). One commit replaces what was there, so that whoever
loads the repository meanwhile has either. Prints one line of JSON: {"url", "revision"}, or {"problem", "detail"}; `problem` is a key
of annotate.services.publications.PROBLEMS.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


class IsPublic(Exception):
    """The repository was there before, open to everybody, and a private one was asked for."""


def push(folder: Path, repository: str, is_private: bool, message: str) -> dict[str, str]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(endpoint=os.environ["HF_ENDPOINT"], token=os.environ["HF_TOKEN"], library_name="podium")
    api.create_repo(repository, repo_type="dataset", private=is_private, exist_ok=True)
    if is_private and not api.repo_info(repository, repo_type="dataset").private:
        raise IsPublic(repository)
    there = {name for name in api.list_repo_files(repository, repo_type="dataset") if name.startswith("data/")}
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    commit = api.create_commit(
        repository,
        [
            *(CommitOperationDelete(path_in_repo=name) for name in sorted(there - set(files))),
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files),
        ],
        commit_message=message,
        repo_type="dataset",
    )
    return {"url": f"{api.endpoint}/datasets/{repository}", "revision": commit.oid}


def problem_of(error: Exception) -> dict[str, str]:
    """What kind of failure it was, and the hub's own words."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, IsPublic):
        return {"problem": "public", "detail": ""}
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else 0
        known = {401: "token", 403: "forbidden", 404: "missing", 402: "quota", 413: "quota", 429: "busy", 507: "quota"}
        problem = known.get(status, "away" if status >= 500 else "refused")
        return {"problem": problem, "detail": str(getattr(error, "server_message", "") or f"HTTP {status}")}
    is_network = isinstance(error, OSError) or type(error).__module__.partition(".")[0].startswith(
        ("httpx", "httpcore")
    )
    return {"problem": "away" if is_network else "refused", "detail": f"{type(error).__name__}: {error}"}


def main() -> int:
    folder, repository, visibility, message = sys.argv[1:]
    answer: dict[str, Any]
    try:
        answer = push(Path(folder), repository, visibility == "private", message)
    except Exception as error:
        answer = problem_of(error)
    print(json.dumps(answer))
    return 1 if "problem" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
