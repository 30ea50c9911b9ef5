"""A project, and all that is in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from .checkpoints import Checkpoint, find_checkpoint
from .datasets import Dataset
from .errors import NotFound
from .flows import Flow, ItemFlow, M, listing, operation
from .imports import Import, RowsAdded, send_rows, upload
from .model import Bound, Data, InProject
from .runs import Evaluation, Run
from .waiting import until
from .webhooks import Webhook
from .wire import Request, get, post

H = TypeVar("H", bound=InProject[Any])


@dataclass(frozen=True, kw_only=True)
class Completion(Data):
    id: int
    prompt: int = 0
    text: str
    reasoning: str = ""
    source: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt(Data):
    """`completions` are there where one prompt was asked for, and empty in lists."""

    id: int
    content_hash: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    reference_answer: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    completions: list[Completion] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RankedCompletion(Data):
    """`rank` 1 is the best; equal ranks are ties."""

    id: int
    rank: int
    ratings: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ranking(Data):
    ranking: str
    prompt: int
    task: int = 0
    verdict: str
    annotator: str = ""
    role: str = ""
    completions: list[RankedCompletion] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    comment: str = ""
    seconds: float = 0.0
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Project(Bound[M]):
    slug: str
    name: str = ""
    description: str = ""
    state: str = ""
    overlap: int = 0
    completions_per_task: int = 0
    created_at: datetime | None = None
    role: str = ""
    rankings_done: int = 0
    rankings_asked: int = 0
    is_exact: bool = True

    @operation
    def refresh(self) -> Flow["Project[M]"]:
        """As it is now, with how far it is."""
        return self._now()

    @listing
    def prompts(self, *, tag: str = "") -> ItemFlow[Prompt]:
        return self.session.each(self._get("prompts", tag=tag), Prompt.read)

    @operation
    def prompt(self, id: int) -> Flow[Prompt]:
        """A prompt with its completions."""
        return Prompt.read((yield from self.session.ask(self._get("prompts", id))))

    @listing
    def completions(self, *, prompt: int | None = None, source: str = "") -> ItemFlow[Completion]:
        return self.session.each(self._get("completions", prompt=prompt, source=source), Completion.read)

    @listing
    def rankings(
        self,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        role: str = "",
        prompt: int | None = None,
    ) -> ItemFlow[Ranking]:
        """The rankings as they are now, oldest first. Times have a zone."""
        request = self._get("rankings", since=since, until=until, role=role, prompt=prompt)
        return self.session.each(request, Ranking.read)

    @operation
    def wait_for_rankings(self, count: int, timeout: float | None = None) -> Flow["Project[M]"]:
        """Until people have made `count` rankings, of those asked for in ordinary tasks. Raises WaitedTooLong."""
        with self.session.bars.bar(f"Rankings in {self.slug}", "rankings") as told:

            def look() -> Flow["Project[M]"]:
                seen = yield from self._now()
                told(min(seen.rankings_done, count), count, None)
                return seen

            what = f"{count:,} rankings in {self.slug}"
            return (
                yield from until(
                    look, lambda seen: seen.rankings_done >= count, timeout=timeout, what=what, slowest=15.0
                )
            )

    @operation
    def import_file(
        self,
        file: str | Path,
        *,
        mapping: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Flow[Import[M]]:
        """Send a file of prompts, completions or preferences: JSONL, CSV, Parquet, compressed or in a zip (docs/data.md).

        `dry_run` stores nothing and gives a `forecast`; its `start()` then imports what was sent. Raises JobFailed, WaitedTooLong.
        """
        raw = yield from upload(self.session, self.slug, Path(file), mapping=mapping, dry_run=dry_run)
        sent = self._read(Import[M], raw)
        return (yield from sent.ended(timeout)) if wait else sent

    @operation
    def import_rows(self, rows: Iterable[Mapping[str, Any]], *, preferences: str = "keep") -> Flow[RowsAdded]:
        """Send rows in Podium's own shape, any number: {"prompt": …, "completions": […]}, with rankings or without.

        A `datasets.Dataset` is such an iterable. `preferences`: keep, ask or ignore those that the rows have.
        """
        return send_rows(self.session, self.slug, rows, preferences)

    @listing
    def imports(self) -> ItemFlow[Import[M]]:
        return self.session.each(self._get("imports"), lambda raw: self._read(Import[M], raw))

    @operation
    def get_import(self, id: int) -> Flow[Import[M]]:
        return self._read(Import[M], (yield from self.session.ask(self._get("imports", id))))

    @operation
    def build_dataset(
        self,
        *,
        note: str = "",
        tag: str = "",
        parent: int | None = None,
        test_fraction: float = 0.1,
        stratify_by: str = "",
        as_of: datetime | str | None = None,
        filters: Mapping[str, Any] | None = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Flow[Dataset[M]]:
        """Freeze the rankings into a version. `filters` are those of docs/api.md. Raises JobFailed, WaitedTooLong."""
        body = {
            "note": note,
            "tag": tag,
            "test_fraction": test_fraction,
            "stratify_by": stratify_by,
            "parent": parent,
            "as_of": as_of,
            "filters": dict(filters or {}),
        }
        raw = yield from self.session.ask(post("projects", self.slug, "datasets", body=body, once=True))
        made = self._read(Dataset[M], raw)
        return (yield from made.ended(timeout)) if wait else made

    @listing
    def datasets(self, *, tag: str = "") -> ItemFlow[Dataset[M]]:
        return self.session.each(self._get("datasets", tag=tag), lambda raw: self._read(Dataset[M], raw))

    @operation
    def dataset(self, which: int | str) -> Flow[Dataset[M]]:
        """By its number or its tag."""
        if isinstance(which, int):
            raw = yield from self.session.ask(self._get("datasets", which))
        else:
            raw = yield from self.session.find(self._get("datasets", tag=which), lambda one: one["tag"] == which)
            if raw is None:
                raise NotFound(
                    404, "Not found", f"The project {self.slug} has no dataset version with the tag “{which}”."
                )
        return self._read(Dataset[M], raw)

    @listing
    def runs(self, *, method: str = "", state: str = "") -> ItemFlow[Run[M]]:
        return self.session.each(
            self._get("runs", method=method, state=state),
            lambda raw: self._read(Run[M], raw),
        )

    @operation
    def run(self, id: int) -> Flow[Run[M]]:
        return self._read(Run[M], (yield from self.session.ask(self._get("runs", id))))

    @operation
    def start_run(
        self,
        method: str,
        *,
        dataset: "int | Dataset[Any] | None" = None,
        inputs: "Mapping[str, str | Checkpoint[Any]] | None" = None,
        note: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> Flow[Run[M]]:
        """Queue a run. `arguments` are the method's own, those that differ from their defaults: Podium.methods() lists them.

        `inputs` maps roles (policy, reward_model, …) to checkpoints; the policy is the promoted one where it is left out.
        """
        body = {
            "method": method,
            "dataset": dataset.number if isinstance(dataset, Dataset) else dataset,
            "inputs": {role: one.name if isinstance(one, Checkpoint) else one for role, one in (inputs or {}).items()},
            "arguments": dict(arguments or {}),
            "note": note,
        }
        return self._read(
            Run[M], (yield from self.session.ask(post("projects", self.slug, "runs", body=body, once=True)))
        )

    @listing
    def checkpoints(self) -> ItemFlow[Checkpoint[M]]:
        return self.session.each(self._get("checkpoints"), lambda raw: self._read(Checkpoint[M], raw))

    @operation
    def checkpoint(self, which: int | str = "") -> Flow[Checkpoint[M]]:
        """By its id or name; the promoted one where neither is given."""
        return self._read(Checkpoint[M], (yield from find_checkpoint(self.session, self.slug, which)))

    @listing
    def evaluations(self) -> ItemFlow[Evaluation]:
        return self.session.each(self._get("evaluations"), Evaluation.read)

    @operation
    def evaluation(self, id: int) -> Flow[Evaluation]:
        """An evaluation with its tables."""
        return Evaluation.read((yield from self.session.ask(self._get("evaluations", id))))

    @listing
    def webhooks(self) -> ItemFlow[Webhook[M]]:
        return self.session.each(self._get("webhooks"), lambda raw: self._read(Webhook[M], raw))

    @operation
    def create_webhook(self, url: str, events: Iterable[str], *, note: str = "") -> Flow[Webhook[M]]:
        """The answer has the `secret` that `verify` needs, this once."""
        # The server takes the same again, within a minute, for one.
        body = {"url": url, "events": list(events), "note": note}
        return self._read(
            Webhook[M], (yield from self.session.ask(post("projects", self.slug, "webhooks", body=body, again=True)))
        )

    def _read(self, kind: type[H], raw: Any) -> H:
        return kind.read(raw, session=self.session, project=self.slug)

    def _now(self) -> Flow["Project[M]"]:
        return self._same((yield from self.session.ask(self._get())))

    def _get(self, *more: object, **query: object) -> Request:
        return get("projects", self.slug, *more, query=query)
