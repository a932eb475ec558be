"""The table that ``da3-ros evaluate`` prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from da3_ros.evaluation.report_recordings import failure_text, recording_row


def print_metrics(metrics: dict[str, Any], output: Path, report: Path | None) -> None:
    """The main numbers of ``metrics``, which are all in ``output`` and on the page ``report``.

    What was lost, and notes, go to standard error.
    """

    def show(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    for text in metrics["lost"]:
        print(f"lost: {text}", file=sys.stderr)
    notes = [*metrics["notes"], *((metrics["trajectory"] or {}).get("notes", ()))]
    for text in notes:
        print(f"note: {text}", file=sys.stderr)
    run = metrics["run"]
    for what, count in run.get("dropped", {}).items():
        print(f"not used: {count} images of {what}", file=sys.stderr)
    if "recordings" in metrics:
        for name, each in metrics["recordings"].items():
            for camera, score in each["depth"].items():
                if "warning" in score:
                    print(f"warning: {name}: depth of {camera}: {score['warning']}", file=sys.stderr)
            frames, abs_rel, aligned, delta1, ate, auc, scale, parts = recording_row(each)
            print(f"{name}: {frames} frames in {parts} parts, AbsRel {show(abs_rel)} (medians aligned {show(aligned)}, "
                  f"delta1 {show(delta1)})")  # fmt: skip
            print(f"  ATE {show(ate)}, AUC@30 {show(auc)}, scale error {show(scale)}")
        for failed in metrics["failed"]:
            print(f"failed: {failure_text(failed)}", file=sys.stderr)
        print("all together")
    for camera, score in metrics["depth"].items():
        if "warning" in score:
            print(f"warning: depth of {camera}: {score['warning']}", file=sys.stderr)
        print(f"depth of {camera}, {score['frames']} frames, each aligned by itself")
        for aligned in ("per_frame", "recording"):
            if aligned == "recording":
                print("  one alignment for the whole recording")
            for alignment, errors in score[aligned].items():
                values = "  ".join(f"{name} {show(errors[name])}" for name in ("abs_rel", "rmse", "delta1", "covered"))
                print(f"  {alignment:12s} {values}")
        if score.get("confidence", {}).get("rank_correlation") is not None:
            print(f"  confidence against error: rank correlation {show(score['confidence']['rank_correlation'])}")
    trajectory = metrics["trajectory"]
    if trajectory:
        print(f"poses: {trajectory['associated_poses']} of {trajectory['estimated_poses']}")
        for alignment, errors in trajectory["ate"].items():
            print(f"  ATE {alignment:6s} rmse {show(errors and errors['rmse'])}")
        rpe = trajectory["rpe"]
        if rpe:
            print(f"  RPE        rmse {show(rpe['translation']['rmse'])}, {show(rpe['rotation_deg']['rmse'])} degrees")
        for name, text in (("continuity", ""), ("continuity_scaled", ", lengths scaled")):
            steps = trajectory[name]
            if steps:
                print(f"  largest step {show(steps['largest_step'])}{text}, of a true {show(steps['true_step'])}; "
                      f"largest difference of a step {show(steps['largest_difference'])}")  # fmt: skip
        print(f"  scale error {show(trajectory['scale_error'])}")
        auc = trajectory["auc"] or {}
        print("  AUC " + "  ".join(f"@{threshold} {show(value)}" for threshold, value in auc.items()))
    if metrics["windows"]:
        values = "  ".join(f"@{threshold} {show(value)}" for threshold, value in metrics["windows"]["auc"].items())
        print(f"AUC within windows, {metrics['windows']['count']} of them: {values}")
    for camera, found in metrics["consistency"].items():
        if found["pairs"]:
            print(f"consistency of {camera}: median {show(found['median_error'])}, scale flicker "
                  f"{show(found['scale_flicker'])}, local {show(found['local_flicker'])}")  # fmt: skip
    views = metrics["novel_views"]
    if views:
        print(f"novel views, {views['held_out']} held out of {views['views']}: PSNR {show(views['psnr'], 2)} dB, "
              f"SSIM {show(views['ssim'])}")  # fmt: skip
    surface = metrics["surface"]
    if surface:
        values = "  ".join(f"{name} {show(surface[name])}" for name in ("accuracy", "completeness", "chamfer", "f1"))
        print(f"surface of {surface['views']} views: {values}")
    if "sets" in run:
        print(f"run: {run['estimates']} estimates of {run['sets']} sets, {show(run['rate_hz'], 1)} a second, "
              f"{show(run['real_time_factor'], 1)} times real time: {show(run['recorded_s'], 1)} s in "
              f"{show(run['elapsed_s'], 1)} s, of which the first estimate took {show(run['first_s'], 1)} s; loading "
              "the network is not in it")  # fmt: skip
    elif "rate_hz" in run:
        print(f"run: {show(run['rate_hz'], 2)} sets a second, and latencies as the node has reported them")
    for stage, times in run.get("latency_ms", {}).items():
        values = "  ".join(f"{name} {show(value, 1)}" for name, value in times.items())
        print(f"  {stage:12s} ms  {values}")
    print(f"all numbers: {output}")
    if report is not None:
        print(f"page: {report}")
