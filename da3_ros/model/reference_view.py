"""Choice of the reference view: the one view of a window whose camera token differs from the others'.

The index stays on the device and views are never reordered: the network treats views alike but for this role.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from da3_ros.errors import InputError
from da3_ros.model.regions import region

STRATEGIES = ("saddle_balanced", "saddle_sim_range", "first", "middle")


def check_strategy(strategy: str) -> None:
    """Raises InputError for an unknown strategy."""
    if strategy not in STRATEGIES:
        raise InputError(f"ref_view is '{strategy}' but must be one of: {', '.join(STRATEGIES)}")


@region
def select_reference(summary: Tensor, strategy: str) -> Tensor:
    """Index of the reference view of each batch element, (B,) int64 on the device of ``summary``.

    ``summary`` (B, N, D) holds one feature vector per view. With one or two views it is always view 0.
    ``saddle_balanced`` takes the view whose similarity to the others, norm and channel variance are, together,
    nearest to the middle of their range; ``saddle_sim_range`` the view whose similarities spread most.
    """
    check_strategy(strategy)
    batch, views = summary.shape[:2]
    if views < 3 or strategy == "first":
        return torch.zeros(batch, dtype=torch.int64, device=summary.device)
    if strategy == "middle":
        return torch.full((batch,), views // 2, dtype=torch.int64, device=summary.device)

    direction = F.normalize(summary.float(), dim=-1)
    similarity = direction @ direction.mT                                               # (B, N, N)
    # The two views of the most similar pair tie by construction: exact symmetry and an exact zero on the diagonal
    # give the tie to the first of them instead of to rounding.
    similarity = torch.maximum(similarity, similarity.mT)
    similarity = similarity.masked_fill(torch.eye(views, dtype=torch.bool, device=summary.device), 0.0)
    if strategy == "saddle_sim_range":
        return (similarity.amax(-1) - similarity.amin(-1)).argmax(-1)
    metrics = torch.stack([
        similarity.sum(-1) / (views - 1),
        summary.float().norm(dim=-1),
        direction.var(dim=-1),
    ])                                                                                  # (3, B, N)
    low, high = metrics.amin(-1, keepdim=True), metrics.amax(-1, keepdim=True)
    return ((metrics - low) / (high - low + 1e-8) - 0.5).abs().sum(0).argmin(-1)
