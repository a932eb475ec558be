"""What of the machine the network gets."""

import os
from pathlib import Path

import pytest
import torch

from da3_ros.config import Config, to_flat
from da3_ros.errors import ConfigError
from da3_ros.streaming import WindowConfig
from da3_ros.streaming.device import choose_execution, choose_matmul, set_cpu_threads

_CPU, _CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(
    ("allowed", "quota", "device", "requested", "wanted"),
    [
        (8, "max 100000", _CPU, 0, 7), (2, "max 100000", _CPU, 0, 1), (1, "max 100000", _CPU, 0, 1),
        (8, "max 100000", _CPU, 5, 5), (2, "max 100000", _CPU, 2, 2),
        (8, "350000 100000", _CPU, 0, 3), (8, "50000 100000", _CPU, 0, 1), (2, "350000 100000", _CPU, 0, 1),
        (64, "max 100000", _CUDA, 0, 4), (2, "max 100000", _CUDA, 0, 1), (64, "max 100000", _CUDA, 9, 9),
    ],
)  # fmt: skip
def test_one_of_the_cores_that_the_process_may_use_is_left_to_ros(
    monkeypatch, tmp_path, allowed, quota, device, requested, wanted
):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr("da3_ros.streaming.device._CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)))
    set_cpu_threads(requested, device)
    assert torch.get_num_threads() == wanted
    set_cpu_threads(requested, device, beside_gpu=1)
    assert torch.get_num_threads() == (1 if (device, requested) == (_CUDA, 0) else wanted)


@pytest.mark.usefixtures("_threads")
def test_a_machine_without_control_groups_has_the_cores_of_the_affinity(monkeypatch, tmp_path):
    monkeypatch.setattr("da3_ros.streaming.device._CPU_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(3)))
    set_cpu_threads(0, _CPU)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("name", "on_cuda", "on_cpu"),
    [("auto", "compiled", "eager"), ("uncompiled", "graphs", "eager"), ("eager", "eager", "eager")],
)
def test_what_suits_the_device_is_chosen(name, on_cuda, on_cpu):
    assert (choose_execution(name, _CUDA), choose_execution(name, _CPU)) == (on_cuda, on_cpu)


def test_what_only_cuda_has_is_refused_elsewhere():
    for name in ("graphs", "compiled"):
        assert choose_execution(name, _CUDA) == name
        with pytest.raises(ConfigError, match=f"model.execution is {name}, which needs a CUDA device"):
            choose_execution(name, _CPU)


def _cpu_with(monkeypatch, flags):
    monkeypatch.setattr(Path, "read_text", lambda path: f"processor : 0\nflags : fpu sse2 {flags}\n")


@pytest.mark.parametrize(
    ("flags", "dtype", "device", "wanted"),
    [
        ("avx512_bf16", "auto", _CPU, "bfloat16"),
        ("amx_bf16", "auto", _CPU, "bfloat16"),
        ("avx512f", "auto", _CPU, None),  # emulated, and slower than float32
        ("avx512_bf16", "float32", _CPU, None),  # somebody asked for it
        ("avx512_bf16", "auto", _CUDA, None),
    ],
)
def test_automatic_products_are_bfloat16_on_processors_that_have_them(monkeypatch, flags, dtype, device, wanted):
    _cpu_with(monkeypatch, flags)
    assert choose_matmul("auto", dtype, device) == wanted


@pytest.mark.parametrize("device", [_CPU, _CUDA])
def test_a_format_that_is_asked_for_is_taken(monkeypatch, device):
    _cpu_with(monkeypatch, "")
    assert choose_matmul("int8", "auto", device) == "int8"
    assert choose_matmul("as_dtype", "auto", device) is None


def test_fp8_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match="model.matmul is fp8, which CPUs do not multiply in: set it to auto"):
        choose_matmul("fp8", "auto", _CPU)


def test_approximations_are_off_unless_asked_for():
    """On a GPU; on a CPU products are bfloat16 where the processor has them, within the same error as float16."""
    values = to_flat(Config())
    found = [values[f"model.{name}"] for name in ("half_resolution_head", "guided_upsampling", "key_reduction")]
    assert (*found, values["window.skip_below"]) == (False, False, 1, 0.0)
    assert choose_matmul(values["model.matmul"], values["model.dtype"], _CUDA) is None
    defaults = WindowConfig()
    assert (defaults.key_reduction, defaults.skip_below) == (1, 0.0)
