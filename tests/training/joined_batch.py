"""One of several processes that train on a joined batch: RANK WORLD_SIZE RENDEZVOUS OUT.

Writes what each loss and its gradients are in this process.
"""

from __future__ import annotations

import sys
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from landcue.errors import UsageError
from landcue.losses.statistics import LabelStatistics
from landcue.models.encoder import Outputs
from landcue.training.config import LossSection
from landcue.training.distributed import broadcast_parameters, gather_batch
from landcue.training.objective import Objective

N, WIDTH, DIM, N_BITS, C = 12, 7, 6, 8, 5
SECTIONS = {
    "marc": LossSection(
        name="marc",
        options={"alpha": 0.5, "norm": "count"},
        balance=0.3,
        classification="asymmetric",
    ),
    "supcon": LossSection(name="supcon"),
    "proxy_anchor": LossSection(name="proxy_anchor", balance=0.5),
    "dhcl": LossSection(name="dhcl", options={"scale": 8.0}),
}


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(WIDTH, 9)
        self.heads = nn.ModuleList(nn.Linear(9, k) for k in (DIM, N_BITS, C))

    def forward(self, x):
        features = torch.relu(self.body(x))
        embedding, codes, logits = (head(features) for head in self.heads)
        return Outputs(features, F.normalize(embedding, dim=1), torch.tanh(codes), logits)


def data():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, WIDTH, generator=g, dtype=torch.float64)
    return x, (torch.rand(N, C, generator=g) < 0.4).to(torch.uint8)


def run(name, rows, several):
    torch.manual_seed(several or 0)  # every rank starts elsewhere, the first where one would
    model = Encoder().double()
    x, y = data()
    objective = Objective(SECTIONS[name], LabelStatistics.from_labels(y), DIM, N_BITS).double()
    if several is not None:
        model = DistributedDataParallel(model)
        if name == "proxy_anchor":
            objective = DistributedDataParallel(objective)
        else:
            broadcast_parameters(objective)
    loss, terms = objective(model(x[rows]), y[rows])
    loss.backward()
    found = {f"{name}/loss": loss.detach()}
    found |= {f"{name}/term/{key}": value for key, value in terms.items()}
    for part, module in (("model", model), ("objective", objective)):
        for key, parameter in module.named_parameters():
            found[f"{name}/{part}/{key.removeprefix('module.')}"] = parameter.grad
    return found


def run_whole():
    """Take the whole batch and no process group: what the processes must agree with."""
    found = {"labels": data()[1]}
    for name in SECTIONS:
        found |= run(name, slice(None), None)
    return found


def main():
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    found = {}
    dist.init_process_group(
        "gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=world,
        timeout=timedelta(seconds=90),
    )  # fmt: skip
    size = N // world
    for name in SECTIONS:
        found |= run(name, slice(rank * size, (rank + 1) * size), rank)
    labels = data()[1][rank * size : (rank + 1) * size]
    found["labels"] = gather_batch(labels)[0]
    try:
        gather_batch(torch.zeros(3 + rank, 2))
    except UsageError as error:
        found["refused"] = str(error)
    torch.save(found, sys.argv[4])
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
