"""Checkpoints from a hub: a real client and a real server, both on this machine."""

import sys
from dataclasses import replace

import pytest
import torch
from model_helpers import TINY, make_images, make_network
from safetensors.torch import save

from da3_ros.errors import UnavailableError, WeightsError
from da3_ros.model import VARIANTS, load_model
from da3_ros.model.hub import HubId, cached_commits, cached_part, fetch, file_sha256, find_cached, parse_hub_id

pytest.importorskip("huggingface_hub", reason="the hub client is optional")
from fake_hub import FakeHub

REPO = "nobody/TINY"


@pytest.fixture(scope="module")
def weights():
    """Content of a published file of variant tiny."""
    return save({"model." + name: value for name, value in make_network(TINY).named_parameters()})


@pytest.fixture
def hub(tmp_path, monkeypatch, weights):
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    with FakeHub() as fake:
        fake.use(monkeypatch, tmp_path / "cache")
        fake.publish(REPO, {"config.json": b'{"model_name": "tiny"}', "model.safetensors": weights})
        yield fake


def refusal(checkpoint=REPO, variant="tiny") -> str:
    with pytest.raises(WeightsError) as error:
        load_model(variant, checkpoint)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_fetched_once_and_then_taken_from_the_cache(hub):
    images = make_images(2, 28, 42)
    expected = make_network(TINY)(images).depth
    assert torch.equal(load_model("tiny", REPO)(images).depth, expected)
    assert hub.downloads() == [""]
    hub.log.clear()
    assert torch.equal(load_model("tiny", REPO)(images).depth, expected)
    assert hub.log == [], "a robot starts without a network"


def test_offline(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refusal()
    assert "HF_HUB_OFFLINE is set" in message and "da3-ros weights fetch nobody/TINY" in message
    assert not hub.log
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    load_model("tiny", REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load_model("tiny", REPO)
    assert f"which has {REPO}@{hub.commits[REPO]['main']}" in refusal(f"{REPO}@v2")


def test_revisions(hub, weights):
    """A pinned revision stays what it is; without one, fetching again follows the branch and loading does not."""
    old = hub.commits[REPO]["main"]
    first = fetch(HubId(REPO), check_folder=print)
    other = save({"model." + name: value + 1 for name, value in make_network(TINY).named_parameters()})
    new = hub.publish(REPO, {"model.safetensors": other})
    hub.publish(REPO, {"model.safetensors": weights, "config.json": b"{}"}, branch="release/1.0")
    assert find_cached(HubId(REPO)) == first
    assert fetch(HubId(REPO), check_folder=print).read_bytes() == other
    assert find_cached(HubId(REPO)).read_bytes() == other
    assert find_cached(HubId(REPO, old)) == first
    hub.log.clear()
    assert fetch(HubId(REPO, new), check_folder=print).read_bytes() == other
    assert not hub.log, "a commit that is here needs no network"
    assert fetch(parse_hub_id(f"{REPO}@release/1.0"), check_folder=print).read_bytes() == weights
    assert not hub.downloads(), "the same content is not sent twice"
    assert {old, new} < set(cached_commits(REPO))


def test_connection_cut_on_the_way(hub, weights):
    hub.trouble = [50_500]
    load_model("tiny", REPO)
    assert hub.downloads() == ["", "bytes=50000-"]


def test_interrupted_download_goes_on_later(hub, weights):
    """The hub is gone in the middle of the file: what came is kept for the next attempt, then checked as a whole."""
    hub.trouble = [50_500, 0]
    message = refusal()
    assert message.startswith(f"cannot fetch '{REPO}' from the hub: ") and "503" in message
    assert cached_part(REPO) == 50_000 and cached_commits(REPO) == []
    hub.log.clear()
    load_model("tiny", REPO)
    assert hub.downloads() == ["bytes=50000-"]
    assert cached_part(REPO) == 0
    assert find_cached(HubId(REPO)).read_bytes() == weights


def test_damaged_on_the_way(hub):
    hub.damage = True
    assert "does not have the SHA-256 that the hub gives for it" in refusal()
    hub.damage = False
    load_model("tiny", REPO)
    assert hub.downloads() == ["", ""]


def test_the_token_stays_with_the_hub(hub, monkeypatch):
    """It goes to the hub, and not to the store elsewhere that the hub sends us to."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    load_model("tiny", REPO)
    assert hub.secrets and all(value == "Bearer hf_secret" for _, value in hub.secrets)
    assert hub.downloads() and not [path for path, _ in hub.secrets if path.startswith("/store/")]


def test_full_disk(hub, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    assert "make room, or set HF_HOME" in refusal()
    assert hub.downloads() == []


def test_refusals_of_the_hub(hub, weights):
    assert "there is no such repository (nor such a path here)" in refusal("nobody/NOTHING")
    assert "no branch, tag or commit 'v9'" in refusal(f"{REPO}@v9")
    hub.publish("nobody/PICKLED", {"pytorch_model.bin": b"x"})
    assert "the repository has no model.safetensors" in refusal("nobody/PICKLED")
    hub.gated.add("nobody/CLOSED")
    assert "approved accounts" in refusal("nobody/CLOSED")


def test_wrong_variant_is_refused_before_gigabytes_come(hub, weights, monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny-wide", replace(TINY, name="tiny-wide", dim=128, hub=("nobody/WIDE",)))
    assert refusal(REPO, "tiny-wide") == (
        f"'{REPO}' holds tiny, not tiny-wide: set model.variant to tiny, or take nobody/WIDE"
    )
    assert not hub.log
    hub.publish("somebody/TUNED", {"config.json": b'{"config": {"model_name": "tiny"}}', "model.safetensors": weights})
    assert "belongs to 'tiny', not to 'tiny-wide'" in refusal("somebody/TUNED", "tiny-wide")
    assert hub.downloads() == []


def test_no_network(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    assert f"cannot fetch '{REPO}' from the hub: " in refusal()


def test_no_client(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnavailableError, match="need the package huggingface_hub"):
        load_model("tiny", REPO)


@pytest.mark.parametrize("text, expected", [
    ("a/b", HubId("a/b")),
    ("a/B-1.1@main", HubId("a/B-1.1")),
    ("a/b@refs/pr/1", HubId("a/b", "refs/pr/1")),
    ("weights/model.safetensors", None),
    ("a/b/c", None), ("./a/b", None), ("/a/b", None), ("b", None), ("a/b@", None), ("a/b@../x y", None),
])  # fmt: skip
def test_hub_ids(text, expected):
    assert parse_hub_id(text) == expected


def test_published_repositories():
    assert HubId("depth-anything/DA3-GIANT").variant == "da3-giant"
    assert HubId("Depth-Anything/da3-large-1.1").variant == "da3-large"
    assert HubId("somebody/DA3-BASE").variant is None


def test_file_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
