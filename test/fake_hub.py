"""A hub on the loopback interface: the few routes of the Hugging Face hub that downloading a file uses.

Large files are kept as the real one keeps them: /<repo>/resolve/<revision>/<file> answers with their SHA-256 and a
redirect to another address, which serves byte ranges.
"""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

LARGE = ".safetensors"


class FakeHub:
    """Repositories that can be filled, and a log of what was asked for. A context manager: serves while it is open."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, str]] = {}            # repository -> branch or commit -> commit
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}   # (repository, commit) -> file name -> content
        self.gated: set[str] = set()
        self.log: list[tuple[str, str, str]] = []               # method, path, Range
        self.secrets: list[tuple[str, str]] = []                # path, Authorization where there was one
        # What happens to the next downloads of large files, one entry each: bytes after which the connection is cut
        # (or, negative, after which nothing comes any more), or 0: answer 503.
        self.trouble: list[int] = []
        self.damage = False                                     # flip a bit of every large file
        self._end = threading.Event()
        hub = self

        class Handler(_Handler):
            fake = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> "FakeHub":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """Value for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def publish(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit to ``branch``; returns its id."""
        content = b"".join(name.encode() + files[name] for name in sorted(files))
        commit = hashlib.sha1(repo.encode() + content).hexdigest()
        self.commits.setdefault(repo, {}).update({branch: commit, commit: commit})
        self.files[repo, commit] = files
        return commit

    def downloads(self) -> list[str]:
        """Range of every request for the content of a large file, in order; empty for the whole."""
        return [span for method, path, span in self.log if method == "GET" and path.startswith("/store/")]

    def use(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Make the hub client of this process ask here and keep its files in ``cache``.

        It reads the environment when it is imported, which may have been before.
        """
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", self.endpoint)
        template = self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub, path = self.fake, unquote(self.path)
        hub.log.append((self.command, path, self.headers.get("Range", "")))
        if "Authorization" in self.headers:
            hub.secrets.append((path, self.headers["Authorization"]))
        if path.startswith("/store/"):
            self._serve_large(path.removeprefix("/store/"))
            return
        repo, found, rest = path.strip("/").partition("/resolve/")
        if not found:
            self._refuse(404, "")
        elif repo in hub.gated:
            self._refuse(403, "GatedRepo")
        elif repo not in hub.commits:
            self._refuse(401, "RepoNotFound")
        else:
            revision, _, name = rest.rpartition("/")
            commit = hub.commits[repo].get(revision)
            if commit is None:
                self._refuse(404, "RevisionNotFound")
            elif name not in hub.files[repo, commit]:
                self._refuse(404, "EntryNotFound", commit)
            else:
                self._serve(name, commit, hub.files[repo, commit][name], body)

    def _serve(self, name: str, commit: str, content: bytes, body: bool) -> None:
        large = name.endswith(LARGE)
        self.send_response(302 if large else 200)
        self.send_header("X-Repo-Commit", commit)
        if large:
            digest = hashlib.sha256(content).hexdigest()
            self.send_header("X-Linked-Etag", f'"{digest}"')
            self.send_header("X-Linked-Size", str(len(content)))
            # Another host, as with the real one: the client stops there when it only asks for the head.
            self.send_header("Location", f"{self.fake.endpoint.replace('127.0.0.1', 'localhost')}/store/{digest}")
            content = b""
        else:
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _serve_large(self, digest: str) -> None:
        hub = self.fake
        contents = (content for files in hub.files.values() for content in files.values())
        content = next(content for content in contents if hashlib.sha256(content).hexdigest() == digest)
        if hub.damage:
            content = bytes([content[0] ^ 1]) + content[1:]
        trouble = hub.trouble.pop(0) if hub.trouble else None
        if trouble == 0:
            self._refuse(503, "")
            return
        span = self.headers.get("Range", "")
        start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
        self.send_response(206 if span else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start:] if trouble is None else content[start:start + abs(trouble)])
        self.wfile.flush()
        if trouble is not None and trouble < 0:
            hub._end.wait(60)
        self.close_connection = True

    def _refuse(self, status: int, code: str, commit: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass
