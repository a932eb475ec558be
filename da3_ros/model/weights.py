"""Checkpoints: from a safetensors file in the published layout to a network on its device, and back.

With ``checkpoint`` (files) and ``hub`` (downloads) the only part of this package that knows of paths. Loading is
strict about every key and shape.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import nn

from da3_ros.errors import ConfigError, WeightsError
from da3_ros.model.checkpoint import (
    WEIGHTS_FILE,
    check_file,
    check_folder,
    find_file,
    one_line,
    read_tensors,
)
from da3_ros.model.hub import fetch, find_cached, parse_hub_id
from da3_ros.model.layers import low_precision_parameters
from da3_ros.model.layout import PREFIX, Network, build, network_layout
from da3_ros.model.random_weights import draw, make_generator
from da3_ros.model.variants import VARIANTS, Variant

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
RANDOM = "random"               # the checkpoint of seeded random weights
BUNDLED = Path(__file__).parent / "pretrained"
_log = logging.getLogger(__name__)


def load_model(
    variant: str,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    accept_noncommercial: bool = False,
) -> Network:
    """A network ready for inference: evaluation mode, no gradients.

    ``variant`` is a key of VARIANTS. ``checkpoint`` is a safetensors file, a folder with model.safetensors (and
    config.json), a hub id such as "depth-anything/DA3-BASE" or "owner/name@revision", or "random" for seeded random
    weights. None is the weights that come with the package for a variant that is bundled, else the same as "random".
    A hub id is taken from the local cache where it is there, so that a robot starts without a network and with the
    weights that it had, and fetched otherwise. ``dtype`` is that of linear layers, attention and convolutions; what
    is sensitive stays in fp32. ``accept_noncommercial`` says that the licence of variants which are published for
    non-commercial use only is accepted, wherever the file comes from. Raises ConfigError for an
    unknown variant, device or dtype, and WeightsError for a licence that was not accepted and for a checkpoint that
    cannot be had or does not fit exactly.
    """
    if variant not in VARIANTS:
        raise ConfigError(f"unknown model variant '{variant}'; there are: {', '.join(VARIANTS)}")
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype}; use one of: {', '.join(str(known) for known in DTYPES)}")
    device = _check_device(device)
    model = build(VARIANTS[variant])
    if checkpoint is None and VARIANTS[variant].bundled:
        checkpoint = bundled_weights(VARIANTS[variant])
    if checkpoint in (None, RANDOM):
        fill_random(model, device, dtype)
    else:
        check_licence(VARIANTS[variant], accept_noncommercial)
        fill_from_file(model, find_weights(checkpoint, variant), device, dtype)
    return model.eval().requires_grad_(False)


def bundled_weights(variant: Variant) -> Path:
    """The checkpoint of a bundled variant that comes with the package. Raises WeightsError where it does not."""
    path = BUNDLED / f"{variant.name}.safetensors"
    if not path.is_file():
        raise WeightsError(f"the weights of {variant.name} are not in this installation (no {path}): give a "
                           f"checkpoint, or '{RANDOM}' for untrained weights")
    return path


def check_licence(variant: Variant, accept_noncommercial: bool) -> None:
    """Raises WeightsError if the weights of ``variant`` are for non-commercial use only and that is not accepted.

    A local file counts too: weights of such a variant are the published ones or, most often, derived from them.
    """
    if not variant.noncommercial:
        return
    if not accept_noncommercial:
        free = ", ".join(other.name for other in VARIANTS.values() if not other.noncommercial)
        raise WeightsError(
            f"the weights of {variant.name} are published under {variant.licence}, for non-commercial use only: set "
            f"model.accept_noncommercial to true if yours is (in Python: accept_noncommercial=True; da3-ros commands: "
            f"--accept-noncommercial), or choose a variant that is free for any use: {free}"
        )
    _log.warning("the weights of %s are for non-commercial use only (%s)", variant.name, variant.licence)


def fill_random(model: Network, device: torch.device, dtype: torch.dtype) -> None:
    """Gives every parameter of a network without storage a seeded random value."""
    generator = make_generator()
    dtypes = _parameter_dtypes(model, dtype)
    for name, parameter in sorted(model.named_parameters()):
        owner = model.get_submodule(name.rpartition(".")[0])
        _assign(model, name, draw(name, parameter.shape, owner, generator).to(device, dtypes[name]))


def fill_from_file(model: Network, path: Path, device: torch.device, dtype: torch.dtype) -> None:
    """Reads every parameter of a network without storage from a safetensors file, one at a time.

    Host memory holds no second copy: at most some tens of megabytes more than the network itself, and nothing but
    these where ``device`` is not the host. The network owns its memory, so the file may be replaced afterwards.
    Raises WeightsError, before anything is read, unless keys and shapes are exactly those of the network.
    """
    check_file(path, model.variant.name, network_layout(model))
    dtypes = _parameter_dtypes(model, dtype)
    for key, value in read_tensors(path, [PREFIX + name for name in dtypes], device):
        name = key.removeprefix(PREFIX)
        _assign(model, name, value.to(dtypes[name], copy=device.type == "cpu"))


def save_checkpoint(model: Network, path: str | Path) -> None:
    """Writes the network's parameters in the published layout, as ``write_tensors`` does; shared parameters once."""
    write_tensors({PREFIX + name: value.detach().contiguous() for name, value in model.named_parameters()}, Path(path))


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes tensors as one safetensors file.

    What was at ``path`` stays as it was until all of the new file is on the disk. Raises WeightsError where that
    cannot be written.
    """
    from safetensors import SafetensorError  # here, so that networks also run where torch is all there is
    from safetensors.torch import save_file

    part = path.with_name(f".{path.name}.{os.getpid()}.part")      # in the same folder, so that it can be renamed
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), part, metadata={"format": "pt"})
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"cannot write the checkpoint {path} ({one_line(error)})") from error
    finally:
        with suppress(OSError):                 # such as a folder that could not be made
            part.unlink()


def find_weights(checkpoint: str | Path, variant: str) -> Path:
    """The safetensors file of ``variant`` that ``checkpoint`` stands for; fetched if it is a hub id not yet cached.

    Raises WeightsError where there is none, or where it is known to belong to another variant.
    """
    path = Path(checkpoint).expanduser()
    hub_id = None if path.exists() else parse_hub_id(str(checkpoint))
    if hub_id is None:
        file = find_file(path)
        if file is None:
            raise WeightsError(f"no checkpoint at {path / WEIGHTS_FILE if path.is_dir() else path}: give a safetensors "
                               f"file, a folder with {WEIGHTS_FILE}, or a hub id such as depth-anything/DA3-BASE")
        return file
    if hub_id.variant not in (None, variant):
        own = VARIANTS[variant].hub
        raise WeightsError(f"'{hub_id}' holds {hub_id.variant}, not {variant}: set model.variant to {hub_id.variant}"
                           + (f", or take {own[0]}" if own else ""))
    return find_cached(hub_id) or fetch(hub_id, partial(check_folder, variant=variant))


def _parameter_dtypes(model: Network, dtype: torch.dtype) -> dict[str, torch.dtype]:
    reduced = {id(parameter) for parameter in low_precision_parameters(model)}
    return {
        name: dtype if id(parameter) in reduced else torch.float32
        for name, parameter in model.named_parameters()
    }


def _assign(model: Network, name: str, value: torch.Tensor) -> None:
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, nn.Parameter(value, requires_grad=False))


def _check_device(device: str | torch.device) -> torch.device:
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}' cannot be used here ({one_line(error)})") from error
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
