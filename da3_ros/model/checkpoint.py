"""Reading a checkpoint from disk: the safetensors file, and the config.json that the hub keeps beside it.

Nothing is ever unpickled.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from da3_ros.errors import WeightsError
from da3_ros.model.layout import Layout, check_layout, fitting_variants
from da3_ros.model.variants import VARIANTS

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
_FLOATING = ("F64", "F32", "F16", "BF16")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# Pages of a mapped file that were read count as memory of this process until the file is unmapped.
_MAPPED_BYTES = 64 << 20


def find_file(path: Path) -> Path | None:
    """The safetensors file that ``path``, a file or a folder in the hub's layout, stands for; None if there is none.

    Raises WeightsError where there is only a pickled checkpoint.
    """
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if not file.is_file():
        pickles = [one for one in path.glob("*") if one.suffix in _PICKLES] if path.is_dir() else []
        if not pickles:
            return None
        file = min(pickles)
    if file.suffix in _PICKLES:
        raise WeightsError(f"{file} is a pickled checkpoint, which can run code when it is opened: convert it to "
                           f"safetensors, or fetch the published {WEIGHTS_FILE}")
    return file


def read_layout(path: Path) -> Layout:
    """Key and shape of every tensor of a safetensors file; reads its header only.

    Raises WeightsError for a damaged file and for a tensor that is not of a floating type.
    """
    layout = {}
    with _open(path, "cpu") as file:
        keys = file.keys()
        for key in keys:
            entry = file.get_slice(key)
            if entry.get_dtype() not in _FLOATING:
                raise WeightsError(f"{path}: {key} is {entry.get_dtype()} but must be one of {', '.join(_FLOATING)}")
            layout[key] = tuple(entry.get_shape())
    return layout


def read_tensors(path: Path, keys: Iterable[str], device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """The tensors of ``keys``, one after the other, on ``device`` and in the dtype of the file.

    On the CPU a tensor is a view of the mapped file: copy it, and let go of it before asking for the next. The file
    is mapped anew every now and then, so that no more than a few of its pages are held in memory.
    """
    keys = iter(keys)
    key = next(keys, None)
    while key is not None:
        mapped = 0
        with _open(path, str(device)) as file:
            while key is not None and mapped < _MAPPED_BYTES:
                tensor = file.get_tensor(key)
                mapped += tensor.nbytes
                yield key, tensor
                del tensor
                key = next(keys, None)


def read_config(folder: Path) -> str | None:
    """The variant that a config.json in ``folder`` names; None where it is absent or names none that we know.

    Raises WeightsError for a file that is no configuration.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not a valid configuration ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is not a valid configuration (it must hold a JSON object)")
    # Some releases of the hub client nest the constructor's arguments one level deeper.
    nested = content.get("config")
    name = content.get("model_name") or (nested.get("model_name") if isinstance(nested, dict) else None)
    return name if name in VARIANTS else None


def check_folder(folder: Path, variant: str | None) -> None:
    """Checks the config.json in a folder; its absence is no error.

    Raises WeightsError if it is no configuration, or names another variant than ``variant`` (None: any will do).
    """
    named = read_config(folder)
    if named is not None and variant is not None and named != variant:
        raise WeightsError(f"{folder} belongs to '{named}', not to '{variant}': set model.variant to '{named}'")


def check_file(path: Path, variant: str, wanted: Layout) -> None:
    """Checks that a safetensors file, and the config.json beside it, are of ``variant`` with layout ``wanted``.

    Raises WeightsError that says what does not fit and which variant would.
    """
    found = read_layout(path)
    # A file under another name need not be the one that the configuration is about.
    named = read_config(path.parent) if path.name == WEIGHTS_FILE else None
    if named in (None, variant) and found == wanted:
        return
    fitting = fitting_variants(found)
    if named is not None and fitting and named not in fitting:
        raise WeightsError(f"{path.parent}: {CONFIG_FILE} says '{named}' but the tensors of {WEIGHTS_FILE} are those "
                           f"of {' or '.join(fitting)}: one of the two files is of another checkpoint")
    if named is not None:
        check_folder(path.parent, variant)
    check_layout(wanted, found, f"{path} does not fit {variant}")


def one_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).strip().partition("\n")[0]


@contextmanager
def _open(path: Path, device: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open  # here, so that networks also run where torch is all there is

    try:
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a complete safetensors file ({one_line(error)}): fetch or copy it "
                           f"again") from error
