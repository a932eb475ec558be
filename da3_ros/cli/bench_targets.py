"""What a step is to take on one H100, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass

# Milliseconds by variant and new views: windows of 8 views of 504x378, half precision, from uint8 images in host
# memory to depth and confidence of the new views and poses and intrinsics of all views in host memory.
STEP_MS = {
    ("da3-small", 1): 2.5, ("da3-base", 1): 4.5, ("da3-large", 1): 12.0, ("da3-giant", 1): 38.0,
    ("da3-small", 4): 3.5, ("da3-base", 4): 6.0, ("da3-large", 4): 16.0, ("da3-giant", 4): 48.0,
}  # fmt: skip
_VIEWS, _SIZE_HW, _DTYPES = 8, (378, 504), ("bfloat16", "float16")
# Times as fast as the reference's whole call and as its bare forward, in the same run.
_CALL_RATIO, _FORWARD_RATIO, _FORWARD_RATIO_GIANT = 15.0, 6.0, 4.0


@dataclass(frozen=True)
class Target:
    """Milliseconds of a step, and times as fast as the reference's whole call and as its bare forward."""

    step_ms: float
    call_ratio: float
    forward_ratio: float

    def verdict(self, step_ms: float, call_ratio: float | None, forward_ratio: float | None) -> str:
        """``met``, or what was missed; the ratios count where the reference was run."""
        missed = [f"{step_ms / self.step_ms:.2f} x the time"] if step_ms > self.step_ms else []
        if call_ratio is not None and call_ratio < self.call_ratio:
            missed.append(f"call {call_ratio:.1f} of {self.call_ratio:g}")
        if forward_ratio is not None and forward_ratio < self.forward_ratio:
            missed.append(f"forward {forward_ratio:.1f} of {self.forward_ratio:g}")
        return "missed: " + ", ".join(missed) if missed else "met"


def find_target(variant: str, views: int, new: int, size_hw: tuple[int, int], dtype: str, device: str) -> Target | None:
    """The target for a measurement; None for those that have none."""
    step_ms = STEP_MS.get((variant, new))
    if step_ms is None or device != "cuda" or (views, size_hw) != (_VIEWS, _SIZE_HW) or dtype not in _DTYPES:
        return None
    return Target(step_ms, _CALL_RATIO, _FORWARD_RATIO_GIANT if variant == "da3-giant" else _FORWARD_RATIO)
