"""The account of a step's kernels: which group each belongs to, sums, what ran side by side, graphs."""

import json

import pytest
import torch

from da3_ros.cli import bench_account
from da3_ros.cli.bench_account import account, group_of, launches, read_kernels
from da3_ros.cli.bench_floor import StepArithmetic, step_arithmetic, step_gflop
from da3_ros.cli.bench_kernels import longest, main
from da3_ros.errors import UnavailableError

GRAPH, SINGLE = 7, 8


def event(name, begin, duration, correlation, kind="kernel"):
    return {"cat": kind, "name": name, "ts": begin, "dur": duration, "args": {"correlation": correlation}}


def launch(name, correlation):
    return {"cat": "cuda_runtime", "name": name, "ts": 0, "dur": 1, "args": {"correlation": correlation}}


def two_steps():
    """Each step: a copy and a small operation by themselves, then two graphs, the second with kernels side by side."""
    events = []
    for step in (0, 1):
        at, number = 1000.0 * step, 10 * step
        events += [
            launch("cudaMemcpyAsync", number + 1), launch("cudaGraphLaunch", number + 2),
            launch("cudaGraphLaunch", number + 3), launch("cudaLaunchKernel", number + 4),
            event("Memcpy HtoD (Pinned -> Device)", at, 100, number + 1, "gpu_memcpy"),
            event("void at::native::elementwise_kernel<128, 4>", at + 100, 20, number + 4),
            event("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_NNT", at + 200, 50, number + 2),
            event("_attend", at + 300, 80, number + 3),
            event("triton_per_fused_add_native_layer_norm_3", at + 340, 60, number + 3),
        ]  # fmt: skip
    return events


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("_attend", "attention"),
        ("void pytorch_flash::flash_fwd_kernel<...>", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob", "attention"),
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_bias_NNT", "matrix products, 16 bit"),
        ("sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x64_cublas", "matrix products, 16 bit"),
        ("triton_tem_fused_addmm_gelu_2", "matrix products, 16 bit"),
        ("ampere_sgemm_32x128_tn", "matrix products, 32 bit"),
        ("std::enable_if<!(false)>::type internal::gemvx::kernel<int, float>", "matrix products, 32 bit"),
        ("sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x64x64", "convolutions of the head"),
        ("triton_poi_fused_convolution_relu_5", bench_account.LAYERS),
        ("triton_poi_fused__to_copy_cat_mul_neg_1", bench_account.LAYERS),
        ("resample_kernel", "images to network input"),
        ("median_kernel", "median of the confidence"),
        ("Memcpy DtoH (Device -> Pinned)", "download"),
        ("Memset (Device)", "other copies and fills"),
        ("void at::native::reduce_kernel<512, 1, ...>", "small operations, one by one"),
        ("vectorized_elementwise_kernel<4, at::native::float16_copy_kernel_cuda", "small operations, one by one"),
    ],
)  # fmt: skip
def test_groups_by_name(name, group):
    assert group_of(name) == group


def test_rows_add_up_and_stand_beside_what_is_needed():
    arithmetic = StepArithmetic(attention=20.0, products=10.0, head=0.0, layers_gbyte=0.03)
    rows = {row.kernels: row for row in account(read_kernels(two_steps()), 2, arithmetic, 1000.0, 3000.0)}
    assert rows["attention"].ms == pytest.approx(0.08) and rows["attention"].count == 1
    assert (rows["attention"].ideal, rows["attention"].above) == pytest.approx((0.02, 0.06)), "GFLOP over TFLOP/s"
    assert rows[bench_account.LAYERS].ideal == pytest.approx(0.01), "GB over GB/s, in ms"
    assert rows["upload"].ideal is None and rows["upload"].ms == pytest.approx(0.1)
    assert rows["all"].ms == pytest.approx(0.31) and rows["all"].count == 5
    assert rows["all"].above == pytest.approx(0.31 - 0.04)
    assert rows["of which side by side"].ms == pytest.approx(0.04), "from 340 to 380"
    assert "convolutions of the head" not in rows


def test_graphs_in_their_order_and_the_rest():
    first, second, single = launches(read_kernels(two_steps()), 2)
    assert (first.launch, first.count, first.ms) == ("graph 1", 1, pytest.approx(0.05))
    assert (second.launch, second.count, second.longest) == ("graph 2", 2, "_attend")
    assert (second.ms, second.span) == pytest.approx((0.14, 0.1)), "two kernels that overlap"
    assert (single.launch, single.count, single.ms) == ("one by one", 2, pytest.approx(0.12))


def test_steps_that_are_not_alike_are_one_row():
    events = [*two_steps(), launch("cudaGraphLaunch", 40), event("_attend", 5000, 10, 40)]
    assert [row.launch for row in launches(read_kernels(events), 2)] == ["graphs", "one by one"]
    eager = [e for e in two_steps() if "Graph" not in e["name"]]
    assert [row.launch for row in launches(read_kernels(eager), 2)] == ["one by one"]


def test_longest_first(monkeypatch):
    monkeypatch.setattr("da3_ros.cli.bench_kernels._PROFILED", 2)
    (name, (count, milliseconds)), *_ = longest(read_kernels(two_steps()))
    assert (name, count, milliseconds) == ("Memcpy HtoD (Pinned -> Device)", 1, pytest.approx(0.1))


def test_parts_of_the_arithmetic():
    parts = step_arithmetic("da3-large", 8, 1, 378, 504)
    assert parts.gflop == step_gflop("da3-large", 8, 1, 378, 504) == parts.attention + parts.products + parts.head
    # Of 24 layers 9 hold the new view alone and 15 all eight; 973 tokens of 1024 channels.
    assert parts.layers_gbyte == pytest.approx(52 * 1024 * 973 * (9 + 15 * 8) / 1e9, rel=0.02)
    more = step_arithmetic("da3-large", 8, 4, 378, 504)
    assert more.head == pytest.approx(4 * parts.head) and more.attention < 1.2 * parts.attention


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match="the CPU runs no kernels"):
        main([])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_a_gpu(capsys, tmp_path):
    """Without compiling, which takes long and changes nothing about what is shown."""
    file, trace = tmp_path / "kernels.json", tmp_path / "trace.json.gz"
    main(["--views", "2", "-p", "model.execution:=graphs", "--matmul-tflops", "700",
          "--json", str(file), "--trace", str(trace)])  # fmt: skip
    found = json.loads(file.read_text())
    groups = {row["kernels"]: row for row in found["groups"]}
    assert groups["attention"]["ms"] > groups["attention"]["ideal"] > 0
    assert groups["upload"]["count"] >= 1 and groups["download"]["count"] >= 1
    graphs = {row["launch"]: row["count"] for row in found["graphs"]}
    assert {"graph 1", "one by one"} <= graphs.keys() and max(graphs.values()) > 20
    assert sum(row["count"] for row in found["graphs"]) == pytest.approx(groups["all"]["count"])
    assert trace.stat().st_size > 0 and "of which side by side" in capsys.readouterr().out
