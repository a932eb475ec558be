"""Checkpoints on the Hugging Face hub: their ids, their files in the local cache, and fetching them.

The cache is the hub client's own, so HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they
always mean, and what other programs fetched is found. Only importing this needs no hub client.
"""

import fcntl
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from da3_ros.errors import UnavailableError, WeightsError
from da3_ros.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE, one_line
from da3_ros.model.variants import VARIANTS

MAIN = "main"
_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[\w.-]+(/[\w.-]+)*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")       # the hub names large files by it, and small ones by another hash


@dataclass(frozen=True)
class HubId:
    """A repository on the hub and a branch, tag or commit of it; written ``owner/name`` or ``owner/name@revision``."""

    repo: str
    revision: str = MAIN

    def __str__(self) -> str:
        return self.repo if self.revision == MAIN else f"{self.repo}@{self.revision}"

    @property
    def variant(self) -> str | None:
        """The variant whose published weights the repository holds; None for a repository that we do not know."""
        for name, variant in VARIANTS.items():
            if self.repo.lower() in (repo.lower() for repo in variant.hub):
                return name
        return None


def parse_hub_id(text: str) -> HubId | None:
    """The hub id that ``text`` is; None for what can only be a path."""
    match = _ID.fullmatch(text)
    if match is None or match["repo"].endswith(Path(WEIGHTS_FILE).suffix):
        return None
    return HubId(match["repo"], match["revision"] or MAIN)


def find_cached(hub_id: HubId) -> Path | None:
    """The checkpoint in the local cache; None where it is not there. Never asks the hub."""
    hub = _client()
    with _explained(hub_id):
        try:
            found = hub.hf_hub_download(
                hub_id.repo, WEIGHTS_FILE, revision=hub_id.revision, local_files_only=True
            )
        except hub.errors.LocalEntryNotFoundError:
            return None
    return Path(found)


def fetch(hub_id: HubId, check_folder: Callable[[Path], object]) -> Path:
    """Brings the checkpoint as it is on the hub now into the cache; what is there already is not sent again.

    config.json comes first, and ``check_folder`` may refuse its folder before gigabytes follow. An interrupted
    download goes on where it stopped, in this process or in a later one, and the result's SHA-256 is compared with
    the hub's. Shows a progress bar on a terminal. Raises WeightsError that says what to do.
    """
    hub = _client()
    with _explained(hub_id):
        if _COMMIT.fullmatch(hub_id.revision) and (cached := find_cached(hub_id)) is not None:
            return cached                   # a commit never changes
        # Asked first: it fails at once without a network, where the download below tries for long.
        remote = hub.get_hf_file_metadata(hub.hf_hub_url(hub_id.repo, WEIGHTS_FILE, revision=hub_id.revision))
        try:
            config = hub.hf_hub_download(hub_id.repo, CONFIG_FILE, revision=hub_id.revision)
            check_folder(Path(config).parent)
        except hub.errors.RemoteEntryNotFoundError:
            pass                            # then the tensors alone must tell
        if remote.etag and remote.commit_hash and remote.size is not None:
            _complete_blob(hub_id, remote.etag, remote.commit_hash, remote.size)
        return Path(hub.hf_hub_download(hub_id.repo, WEIGHTS_FILE, revision=hub_id.revision))


def cached_commits(repo: str) -> list[str]:
    """Commits of ``repo`` whose checkpoint is in the local cache."""
    return sorted(path.parent.name for path in _cache_folder(repo).glob(f"snapshots/*/{WEIGHTS_FILE}"))


def cached_part(repo: str) -> int:
    """Bytes of an interrupted download of ``repo`` that are kept in the local cache."""
    return sum(path.stat().st_size for path in _cache_folder(repo).glob(f"blobs/{_part_name('*')}"))


def published_sha256(path: Path) -> str | None:
    """The SHA-256 that the hub gave for a file in its cache or in a folder that its client made; None if unknown."""
    blob = path.resolve()
    if blob.parent.name == "blobs":
        tag = blob.name
    else:
        record = path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata"
        lines = record.read_text().split() if record.is_file() else []      # commit, entity tag, time
        tag = lines[1] if len(lines) > 1 else ""
    return tag if _SHA256.fullmatch(tag) else None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def _complete_blob(hub_id: HubId, etag: str, commit: str, size: int) -> None:
    """Downloads the weights into the cache's store of contents, going on from what an earlier attempt left there.

    The hub client resumes a broken connection for some seconds but throws everything away when it gives up.
    """
    hub = _client()
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    blob = _cache_folder(hub_id.repo) / "blobs" / etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(_part_name(etag))
    with part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)    # another process may be fetching the same
        if blob.exists():
            part.unlink(missing_ok=True)
            return
        done = file.tell()
        free = shutil.disk_usage(blob.parent).free
        if free < size - done:
            raise WeightsError(f"'{hub_id}' needs {_gigabytes(size - done)} more but {blob.parent} has "
                               f"{_gigabytes(free)} free: make room, or set HF_HOME to a folder on another disk")
        http_get(
            hub.hf_hub_url(hub_id.repo, WEIGHTS_FILE, revision=commit), file, resume_size=done,
            headers=build_hf_headers(), expected_size=size, displayed_filename=f"{hub_id} {WEIGHTS_FILE}",
        )
        file.flush()
        if _SHA256.fullmatch(etag) and file_sha256(part) != etag:
            part.unlink()
            raise WeightsError(f"what was fetched of '{hub_id}' does not have the SHA-256 that the hub gives for it "
                               f"({etag}); it was deleted: fetch it again")
        part.rename(blob)


def _part_name(etag: str) -> str:
    return f"{etag}.da3-ros.incomplete"


def _cache_folder(repo: str) -> Path:
    """Folder of a repository in the cache (its layout is documented by the hub)."""
    return Path(_client().constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _client() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise UnavailableError("hub ids need the package huggingface_hub: install it, or give a local file (there is "
                               "no path of that name)") from error
    return huggingface_hub


@contextmanager
def _explained(hub_id: HubId) -> Iterator[None]:
    """Turns what the hub client raises into one WeightsError that says what to do."""
    try:
        yield
    except (UnavailableError, WeightsError):
        raise
    except Exception as error:      # the hub client's errors, its HTTP library's and the file system's have no base
        raise WeightsError(f"cannot fetch '{hub_id}' from the hub: {_reason(hub_id, error)}") from error


def _reason(hub_id: HubId, error: Exception) -> str:
    hub = _client()
    errors = hub.errors
    if isinstance(error, errors.OfflineModeIsEnabled) or hub.constants.HF_HUB_OFFLINE:
        have = ", ".join(f"{hub_id.repo}@{commit}" for commit in cached_commits(hub_id.repo))
        return (f"HF_HUB_OFFLINE is set and it is not in the cache {hub.constants.HF_HUB_CACHE}"
                + (f", which has {have}" if have else "")
                + f": run `da3-ros weights fetch {hub_id}` with a network, or copy that cache here")
    if isinstance(error, errors.GatedRepoError):
        return "its owner lets only approved accounts have it: ask for access on its page, then set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository (nor such a path here), or it is private: then set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no branch, tag or commit '{hub_id.revision}'"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"the repository has no {WEIGHTS_FILE}, and nothing else is read"
    if isinstance(error, errors.HfHubHTTPError):
        return one_line(error)
    kept = cached_part(hub_id.repo)
    cause = error.__cause__ or error
    return (f"{one_line(cause) or type(cause).__name__}, while asking {hub.constants.ENDPOINT}"
            + (f"; the first {_gigabytes(kept)} are kept, and the same command goes on from there" if kept else ""))


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
