"""The reference package's benchmark code, and this folder's helpers, for the tests of da3_ros.evaluation."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1])]


@pytest.fixture(scope="session")
def reference_benchmark() -> ModuleType:
    """The module depth_anything_3.bench.utils, without the folder's __init__, which imports much more.

    Open3D, which only its fusion uses, is a stand-in where it is not installed.
    """
    package = pytest.importorskip("depth_anything_3", reason="the oracle is the package depth-anything-3")
    pytest.importorskip("addict")
    if importlib.util.find_spec("open3d") is None:
        sys.modules["open3d"] = MagicMock()
    file = Path(package.__path__[0]) / "bench" / "utils.py"
    specification = importlib.util.spec_from_file_location("reference_benchmark", file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    finally:
        if isinstance(sys.modules.get("open3d"), MagicMock):
            del sys.modules["open3d"]
    return module
