"""Blocks that come and go are made of the same pages."""

import platform
import subprocess
import sys

import pytest

_COUNT = """
import resource, sys
from da3_ros.heap import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    rows = [b"x" * (6 << 20) for _ in range(3)]
    del rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_blocks_are_used_again():
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", _COUNT, how], check=True, capture_output=True, text=True).stdout)
        for how in ("leave", "keep")
    )
    assert kept < given_back / 4
