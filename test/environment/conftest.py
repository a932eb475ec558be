"""The environment's builder (.ci/environment) is a folder of scripts: put it where its tests can import it."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILDER = ROOT / ".ci" / "environment"


@pytest.fixture
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture
def builder(monkeypatch) -> Path:
    """The builder's folder, importable for the length of a test."""
    monkeypatch.syspath_prepend(str(BUILDER))
    before = set(sys.modules)
    yield BUILDER
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BUILDER)):
            del sys.modules[name]
