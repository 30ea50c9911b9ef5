"""Dataset versions: built, compared, downloaded, loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from .bars import Told
from .downloads import download
from .errors import PodiumError, ServerFault
from .flows import Flow, ItemFlow, M, listing, operation, work
from .model import Data, InProject
from .settings import cache_folder
from .waiting import until, until_ended
from .wire import Request, get, path, post

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "test")
ENDINGS = {".jsonl": "jsonl", ".jsonl.gz": "jsonl.gz", ".csv": "csv", ".parquet": "parquet", ".zip": "folder"}


@dataclass(frozen=True, kw_only=True)
class Publication(InProject[M]):
    """A dataset version on its way to a hub."""

    id: int
    repository: str = ""
    shape: str = ""
    state: str
    progress: float = 0.0
    url: str = ""
    revision: str = ""
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class ChangedRow(Data):
    """A ranking that two versions do not have alike. `change`: added, removed or changed."""

    ranking: str
    change: str
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Diff(Data):
    """What version `other` has otherwise than version `base`: how many rankings, and why. `settings`: [in base, in other]."""

    base: int = 0
    other: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    added: dict[str, Any] = field(default_factory=dict)
    removed: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dataset(InProject[M]):
    """A dataset version: once it has succeeded nothing about it changes but its note and tag."""

    number: int
    state: str
    tag: str = ""
    note: str = ""
    parent: int | None = None
    progress: float = 0.0
    error: str = ""
    as_of: datetime | None = None
    filters: dict[str, Any] = field(default_factory=dict)
    test_fraction: float = 0.0
    stratify_by: str = ""
    content_hash: str = ""
    counts: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    size: int = 0
    origin: str = ""
    created_by: str | None = None
    queued_at: datetime | None = None
    finished_at: datetime | None = None

    @operation
    def refresh(self) -> Flow["Dataset[M]"]:
        """As it is now."""
        return self._same((yield from self.session.ask(self._get())))

    @operation
    def wait(self, timeout: float | None = None) -> Flow["Dataset[M]"]:
        """As it ended. Raises JobFailed, WaitedTooLong."""
        return self.ended(timeout)

    @operation
    def cancel(self) -> Flow["Dataset[M]"]:
        request = post("projects", self.project, "datasets", self.number, "cancel", again=True)
        return self._same((yield from self.session.ask(request)))

    @operation
    def update(self, *, note: str | None = None, tag: str | None = None) -> Flow["Dataset[M]"]:
        """Another note or tag. A tag is a name that points at one version: the version that bore it loses it."""
        body = {name: value for name, value in (("note", note), ("tag", tag)) if value is not None}
        request = Request("PATCH", path("projects", self.project, "datasets", self.number), body=body, again=True)
        return self._same((yield from self.session.ask(request)))

    @listing
    def rows(self, split: str = "") -> ItemFlow[dict[str, Any]]:
        """Its rankings, whole, with the columns of the `ranking` shape."""
        return self.session.each(self._get("rows", split=split), dict)

    @operation
    def diff(self, other: "int | Dataset[Any]", *, timeout: float = 600.0) -> Flow[Diff]:
        """What the version `other` has otherwise, and why; of large versions once the server has worked it out."""
        request = self._diff(other)

        def look() -> Flow[Any]:
            try:
                return (yield from self.session.ask(request))
            except ServerFault as error:
                if error.status != 503:
                    raise
                return None

        what = f"The comparison of v{self.number} with another version"
        return Diff.read((yield from until(look, lambda said: said is not None, timeout=timeout, what=what)))

    @listing
    def changes(self, other: "int | Dataset[Any]") -> ItemFlow[ChangedRow]:
        """The rankings that the version `other` has otherwise, one by one."""
        return self.session.each(self._diff(other), ChangedRow.read)

    @operation
    def lineage(self) -> Flow[dict[str, Any]]:
        """Whose rankings of which prompts it was made of, and which runs learned from it."""
        return dict((yield from self.session.ask(self._get("lineage"))))

    @operation
    def download(
        self,
        /,
        target: str | Path,
        *,
        shape: str = "preference",
        format: str = "",
        split: str = "",
        **options: str | int,
    ) -> Flow[Path]:
        """The file at `target`, whose name says the format where it is not given; a file in a folder is named by the server.

        A download that was interrupted goes on where it broke off. `options` are the server's further ones: docs/data.md.
        """
        place = Path(target)
        format = format or _format_of(place)
        request = self._get("download", shape=shape, format=format, split=split, **options)
        return download(self.session, request, place)

    @operation
    def to_datasets(
        self, shape: str = "preference", *, splits: Sequence[str] = SPLITS, cache: str | Path | None = None
    ) -> Flow["datasets.DatasetDict"]:
        """A `datasets.DatasetDict`, through Parquet files that are kept in `cache` (~/.cache/podium) by the version's content hash.

        Splits without rows are left out. Needs the package `datasets`.
        """
        loader = yield from work(_datasets)
        version = self if self.content_hash else (yield from self.ended(None))
        folder = Path(cache or cache_folder()) / version.content_hash
        files: dict[str, str] = {}
        for split in splits:
            request = self._get("download", shape=shape, format="parquet", split=split)
            head = yield from self.session.call(Request("HEAD", request.path, query=request.query))
            tag = "".join(letter for letter in head.headers.get("etag", "") if letter.isalnum())[:64]
            file = folder / f"{shape}-{split}-{tag or 'whole'}.parquet"
            if not tag or not file.exists():
                yield from download(self.session, request, file, f"v{self.number} {split}")
            files[split] = str(file)
        return (yield from work(lambda: _load(loader, files, folder)))

    @operation
    def publish(
        self, /, repository: str, *, shape: str = "preference", private: bool = True, wait: bool = True, **options: str
    ) -> Flow[Publication[M]]:
        """Push it to a model hub, if the server has a token for one."""
        body = {"repository": repository, "shape": shape, "is_private": private, **options}
        where = ("projects", self.project, "datasets", self.number, "publications")
        made: Publication[M] = Publication.read(
            (yield from self.session.ask(post(*where, body=body, once=True))),
            session=self.session,
            project=self.project,
        )

        def look() -> Flow[Publication[M]]:
            found = yield from self.session.ask(get(*where))
            items = found["items"] if isinstance(found, dict) else found
            return made._same(next(one for one in items if one["id"] == made.id))

        if not wait:
            return made
        title, bars = f"Publishing v{self.number}", self.session.bars
        return (yield from until_ended(made, look, title=title, bars=bars, timeout=None, tell=_tell))

    def ended(self, timeout: float | None) -> Flow["Dataset[M]"]:
        def look() -> Flow["Dataset[M]"]:
            return self._same((yield from self.session.ask(self._get())))

        title = f"Building v{self.number} of {self.project}"
        return until_ended(self, look, title=title, bars=self.session.bars, timeout=timeout, tell=_tell)

    def _diff(self, other: "int | Dataset[Any]") -> Request:
        return self._get("diff", **{"with": other.number if isinstance(other, Dataset) else other})

    def _get(self, *more: str, **query: Any) -> Request:
        return get("projects", self.project, "datasets", self.number, *more, query=query)


def _tell(seen: Union["Dataset[Any]", Publication[Any]], told: Told) -> None:
    told(seen.progress, 1.0, None)


def _format_of(place: Path) -> str:
    name = place.name
    for format in ("jsonl.gz", "jsonl", "csv", "parquet"):
        if name.endswith(f".{format}"):
            return format
    if place.is_dir():
        return "jsonl"
    raise PodiumError(
        f"{name} does not say which format it should have: end it in .jsonl, .jsonl.gz, .csv or .parquet."
    )


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise PodiumError(
            "to_datasets() needs the package “datasets”: pip install 'podium-client[datasets]'."
        ) from error
    return datasets


def _load(loader: Any, files: dict[str, str], folder: Path) -> Any:
    import pyarrow.parquet

    filled = {split: name for split, name in files.items() if pyarrow.parquet.ParquetFile(name).metadata.num_rows}
    if not filled:
        return loader.DatasetDict()
    return loader.load_dataset("parquet", data_files=filled, cache_dir=str(folder / "arrow"))
