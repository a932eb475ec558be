"""``da3-ros weights`` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save, save_file

from da3_ros.cli.main import main
from da3_ros.model import VARIANTS, Variant
from da3_ros.model.layout import variant_layout

pytest.importorskip("huggingface_hub", reason="the hub client is optional")
from fake_hub import FakeHub

TINY = Variant("tiny", 64, 6, (2, 3, 4, 5), 2, 16, (8, 8, 8, 8), ("nobody/TINY-1.1", "nobody/TINY"), "CC-BY-NC-4.0")
KEY = "model.backbone.pretrained.blocks.1.attn.qkv.weight"


def make_tensors(variant=TINY) -> dict[str, torch.Tensor]:
    return {key: torch.zeros(shape) for key, shape in variant_layout(variant).items()}


@pytest.fixture
def tensors(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    return make_tensors()


@pytest.fixture
def hub(tmp_path, monkeypatch, tensors):
    with FakeHub() as fake:
        fake.use(monkeypatch, tmp_path / "cache")
        for repo in TINY.hub:
            fake.publish(repo, {"config.json": b'{"model_name": "tiny"}', "model.safetensors": save(tensors)})
        yield fake


def run(capsys, *arguments) -> tuple[int, str]:
    """Exit code, and what was printed: standard output, else standard error."""
    code = main(["weights", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out or printed.err


def run_json(capsys, *arguments) -> tuple[int, list[dict]]:
    code, text = run(capsys, *arguments, "--json")
    return code, json.loads(text)


def test_list(hub, capsys):
    """Every release with its licence, and what of it is here already."""
    code, text = run(capsys, "list")
    assert code == 0
    lines = {line.split()[1]: line for line in text.splitlines()[1:-1]}
    assert set(lines) == {repo for variant in VARIANTS.values() for repo in variant.hub}
    assert "34 M" in lines["depth-anything/DA3-SMALL"] and "Apache-2.0 " in lines["depth-anything/DA3-SMALL"]
    assert "5.42 GB" in lines["depth-anything/DA3-GIANT-1.1"]
    assert "CC-BY-NC-4.0 *" in lines["depth-anything/DA3-GIANT-1.1"]
    assert "model.accept_noncommercial" in text.splitlines()[-1]
    assert all(line.endswith(" no") for line in lines.values())

    run(capsys, "fetch", "tiny")
    hub.trouble = [20_500, 0]
    assert run(capsys, "fetch", "somebody/ELSE")[0] == 2
    hub.publish("nobody/TINY", {"model.safetensors": save(make_tensors(replace(TINY, features=8)))})
    assert run(capsys, "fetch", "nobody/TINY")[0] == 2
    _, rows = run_json(capsys, "list")
    cached = {row["hub_id"]: row for row in rows if row["variant"] == "tiny"}
    assert cached["nobody/TINY-1.1"]["cached_commits"] == [hub.commits["nobody/TINY-1.1"]["main"]]
    assert cached["nobody/TINY"]["cached_commits"] == [] and cached["nobody/TINY"]["cached_part_bytes"] == 20_000


def test_fetch_and_verify(hub, capsys, monkeypatch):
    """A variant means its preferred release; verifying what was fetched needs no hub."""
    code, text = run(capsys, "verify", "tiny")
    assert code == 2
    assert text.startswith("da3-ros weights: 'nobody/TINY-1.1' is not in the cache: run `da3-ros weights fetch nobody/")
    code, text = run(capsys, "fetch", "tiny")
    assert code == 0 and text.startswith("nobody/TINY-1.1: ") and "non-commercial use only" in text
    hub.log.clear()
    code, reports = run_json(capsys, "verify", "tiny")
    assert code == 0 and not hub.log
    assert reports[0]["variants"] == ["tiny"] and reports[0]["licence"] == "CC-BY-NC-4.0"
    assert {check["name"]: check["outcome"] for check in reports[0]["checks"]} == dict.fromkeys(
        ("structure", "values", "sha256"), "ok"
    )


def test_verify_finds_what_is_wrong(tmp_path, capsys, tensors):
    path = tmp_path / "a.safetensors"

    def outcome(*arguments) -> tuple[int, dict[str, dict]]:
        code, reports = run_json(capsys, "verify", path, *arguments)
        return code, {check["name"]: check for check in reports[0]["checks"]}

    save_file(tensors, path)
    code, checks = outcome()
    assert code == 0 and checks["structure"]["outcome"] == checks["values"]["outcome"] == "ok"
    assert checks["sha256"]["outcome"] == "unknown"
    code, checks = outcome("--variant", "da3-small")
    assert code == 1 and checks["structure"]["detail"].endswith("it fits tiny")
    tensors[KEY][3, 4] = float("nan")
    save_file(tensors, path)
    code, checks = outcome()
    assert code == 1 and checks["values"]["detail"] == f"{KEY} has 1 of {192 * 64} values that are not finite"
    del tensors[KEY]
    save_file(tensors, path)
    code, checks = outcome()
    assert code == 1 and f"{KEY} is missing; nearest is tiny" in checks["structure"]["detail"]
    path.write_bytes(path.read_bytes()[:-1])
    code, checks = outcome()
    assert code == 1 and "is not a complete safetensors file" in checks["structure"]["detail"]


def test_verify_knows_the_hash_of_a_downloaded_folder(tmp_path, capsys, tensors):
    """`hf download --local-dir` leaves the hub's SHA-256 in a file of its own."""
    save_file(tensors, tmp_path / "model.safetensors")
    record = tmp_path / ".cache" / "huggingface" / "download" / "model.safetensors.metadata"
    record.parent.mkdir(parents=True)
    record.write_text("0" * 40 + "\n" + "1" * 64 + "\n1700000000.0\n")
    code, text = run(capsys, "verify", tmp_path)
    assert code == 1 and "sha256     failed" in text and "1" * 64 in text and "structure  ok" in text


def test_nothing_to_verify(tmp_path, capsys):
    for argument, message in ((tmp_path, "no model.safetensors in"), ("da3-huge", "is neither a file or folder here")):
        code, text = run(capsys, "verify", argument)
        assert code == 2 and message in text and text.count("\n") == 1


def test_loading_keeps_no_second_copy_in_memory(tmp_path, capsys):
    """Of da3-base: 541 MB in the file and in fp32."""
    save_file(make_tensors(VARIANTS["da3-base"]), tmp_path / "model.safetensors")
    code, reports = run_json(capsys, "verify", tmp_path, "--memory", "float32", "bfloat16")
    assert code == 0
    full, half = reports[0]["memory"]
    assert full["network"] > 540e6 and half["network"] < 350e6
    for load in (full, half):
        assert load["host_peak"] > load["host_before"] + load["network"]
        assert load["host_overhead"] < 120e6


@pytest.mark.slow
def test_loading_giant_keeps_no_second_copy_in_memory(tmp_path, capsys):
    """5.4 GB in the file and in fp32."""
    save_file(make_tensors(VARIANTS["da3-giant"]), tmp_path / "model.safetensors")
    code, reports = run_json(capsys, "verify", tmp_path, "--memory", "float32", "bfloat16")
    assert code == 0
    assert all(load["host_overhead"] < 150e6 for load in reports[0]["memory"])


def test_killed_in_the_middle_of_a_download(tmp_path):
    """A process that is killed leaves its part to the next; the hub is set in the environment, as users do."""
    content = os.urandom(24_000_000)
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    with FakeHub() as hub:
        hub.publish("nobody/LARGE", {"model.safetensors": content})
        environment["HF_ENDPOINT"] = hub.endpoint
        command = [sys.executable, "-m", "da3_ros.cli.main", "weights", "fetch", "nobody/LARGE"]
        hub.trouble = [-21_000_000]             # stalls there
        child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 200
            while sum(part.stat().st_size for part in tmp_path.rglob("*.incomplete")) < 20_000_000:
                assert time.monotonic() < deadline and child.poll() is None
                time.sleep(0.05)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        assert hub.downloads()[1].startswith("bytes=2")
    path = done.stdout.splitlines()[0].removeprefix("nobody/LARGE: ")
    with open(path, "rb") as file:
        assert file.read() == content
