"""What is read from a profile."""

from da3_ros.cli.bench_overlap import overlap, summary, union


def test_overlap_of_intervals():
    kernels = union([(5.0, 7.0), (0.0, 2.0), (1.0, 3.0), (7.0, 8.0)])
    assert kernels == [(0.0, 3.0), (5.0, 8.0)]
    assert union([(0.0, 3.0), (5.0, 8.0), (10.1, 11.0)], gap=2.0) == [(0.0, 8.0), (10.1, 11.0)]
    assert overlap([(2.0, 6.0), (7.5, 20.0)], kernels) == 2.5
    assert overlap([(3.0, 5.0)], kernels) == 0.0
    assert overlap([(-1.0, 9.0)], kernels) == 6.0


def test_summary_of_a_trace():
    def event(kind, name, begin, duration):
        return {"cat": kind, "name": name, "ts": begin, "dur": duration}

    lines = summary(
        [
            event("kernel", "gemm", 0.0, 4000.0),
            event("kernel", "gemm", 4005.0, 3995.0),
            event("kernel", "sort", 9000.0, 1000.0),
            event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 7000.0, 2000.0),
            event("cpu_op", "aten::mm", 0.0, 9000.0),
        ],
        steps=2,
    )
    assert lines == [
        "kernels run, one behind the other, in 90.0% of 5.00 ms a step",
        "Memcpy HtoD (Pinned -> Device): 1.000 ms a step, 50.0% of it while kernels run",
    ]
