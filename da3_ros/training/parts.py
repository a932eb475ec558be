"""Tensors on disk in safetensors files of a bounded size: checkpoints that must pass through a narrow door."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from da3_ros.errors import WeightsError

PART_BYTES = 15_500_000         # of the tensors in one file, which with its header stays below 16 MB
_NAME = "part-{:03d}-of-{:03d}.safetensors"
_SLICE = "@"                    # ends the name of a tensor that is cut: name@row


def write_parts(tensors: Mapping[str, Tensor], folder: Path, part_bytes: int = PART_BYTES) -> None:
    """Writes ``tensors`` into a new ``folder`` in files of at most ``part_bytes``; all of them or no folder."""
    from safetensors.torch import save_file

    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    parts: list[dict[str, Tensor]] = [{}]
    room = part_bytes
    for name, piece in _pieces(tensors, part_bytes):
        if piece.nbytes > room and parts[-1]:
            parts.append({})
            room = part_bytes
        parts[-1][name] = piece
        room -= piece.nbytes
    for index, part in enumerate(parts):
        save_file(part, partial / _NAME.format(index + 1, len(parts)), metadata={"format": "pt"})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def read_parts(path: Path) -> dict[str, Tensor]:
    """The tensors of a folder of parts, or of a single safetensors file, on the CPU.

    Raises WeightsError where a file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(path.glob("part-*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise WeightsError(f"no weights at {path}: give a safetensors file, or a folder of its parts")
    if path.is_dir() and [file.name for file in files] != [_NAME.format(i + 1, len(files)) for i in range(len(files))]:
        raise WeightsError(f"{path} holds {', '.join(file.name for file in files)}: some of the parts are missing")
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            found.update(load_file(file))
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{file} is not a complete safetensors file ({str(error).splitlines()[0]})") from error
    return _joined(found)


def write_whole(file: Path, text: str) -> None:
    """Writes a text file, all of it or, where the process is killed meanwhile, nothing: what was there stays."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def _pieces(tensors: Mapping[str, Tensor], part_bytes: int) -> Iterator[tuple[str, Tensor]]:
    """Tensors in order; those that are too large for a part cut into groups of rows."""
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.nbytes <= part_bytes:
            yield name, tensor
            continue
        rows = max(1, part_bytes // tensor[0].nbytes)
        for start in range(0, len(tensor), rows):
            yield f"{name}{_SLICE}{start}", tensor[start : start + rows].clone()


def _joined(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    whole: dict[str, Tensor] = {}
    cut: dict[str, list[tuple[int, Tensor]]] = {}
    for key, tensor in found.items():
        name, slice_mark, row = key.partition(_SLICE)
        if slice_mark:
            cut.setdefault(name, []).append((int(row), tensor))
        else:
            whole[name] = tensor
    for name, pieces in cut.items():
        whole[name] = torch.cat([piece for _, piece in sorted(pieces, key=lambda one: one[0])])
    return whole
