"""What a checkpoint of each variant holds: the keys and shapes of the published layout.

Published files name parameters ``model.<parameter>``. Keys are made from the network itself, so a network that is
made of others (``model.<part>.<parameter>``) needs nothing here.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType

import torch

from da3_ros.errors import WeightsError
from da3_ros.model.nested import NestedDepthAnything3
from da3_ros.model.network import DepthAnything3
from da3_ros.model.single_view import SingleViewDepth
from da3_ros.model.variants import VARIANTS, Variant

PREFIX = "model."
Network = DepthAnything3 | SingleViewDepth | NestedDepthAnything3
Layout = Mapping[str, tuple[int, ...]]  # shape of each key


def build(variant: Variant) -> Network:
    """The network of a variant without storage (on the meta device)."""
    with torch.device("meta"):
        if variant.metric is not None:
            return NestedDepthAnything3(DepthAnything3(variant), SingleViewDepth(variant.metric))
        return DepthAnything3(variant) if variant.any_view else SingleViewDepth(variant)


def network_layout(model: Network) -> Layout:
    """Key and shape of everything in a published file; parameters shared between modules appear once."""
    return {PREFIX + name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@functools.cache
def variant_layout(variant: Variant) -> Layout:
    """The same for a variant."""
    return MappingProxyType(network_layout(build(variant)))


def fitting_variants(found: Layout) -> tuple[str, ...]:
    """Names of the variants whose layout is exactly ``found``; several where only their weights differ."""
    return tuple(name for name, variant in VARIANTS.items() if variant_layout(variant) == found)


def check_layout(wanted: Layout, found: Layout, subject: str) -> None:
    """Compares keys and shapes; ``subject`` begins the message, as in "FILE does not fit VARIANT".

    Raises WeightsError for a missing, unexpected or misshaped key, and says which variant would fit.
    """
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    misshaped = sorted(key for key in wanted.keys() & found.keys() if wanted[key] != found[key])
    if not (missing or extra or misshaped):
        return
    problems = []
    if misshaped:
        key = misshaped[0]
        problems.append(f"{key} has shape {found[key]} instead of {wanted[key]}{_more(misshaped)}")
    if missing:
        problems.append(f"{missing[0]} is missing{_more(missing)}")
    if extra:
        problems.append(f"{extra[0]} is unexpected{_more(extra)}")
    raise WeightsError(f"{subject}: {'; '.join(problems)}; {_advice(found)}")


def nearest_variants(found: Layout) -> tuple[str, ...]:
    """Names of the variants that share most keys and shapes with ``found``; none where they share less than half."""
    agreement = {}
    for name, variant in VARIANTS.items():
        wanted = variant_layout(variant)
        same = sum(found.get(key) == shape for key, shape in wanted.items())
        agreement[name] = same / len(wanted.keys() | found.keys())
    best = max(agreement.values())
    return tuple(name for name, share in agreement.items() if share == best) if best > 0.5 else ()


def _advice(found: Layout) -> str:
    """Which variant a set of keys and shapes belongs to."""
    fitting = fitting_variants(found)
    if fitting:
        return f"it fits {' or '.join(fitting)}"
    nearest = nearest_variants(found)
    return f"nearest is {' or '.join(nearest)}" if nearest else "it fits no known variant"


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
