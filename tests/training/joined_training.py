"""One of several processes that train together, started by torchrun: CONFIGS.json OUT.

Trains every configuration of the file into OUT/<name>, and then tries what must be refused.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from landcue.errors import LandcueError
from landcue.training.config import make_config
from landcue.training.distributed import join_batch_norm
from landcue.training.loop import train


def normalized(rank, size):
    """What layers give for every ``size``-th image, and all they learn from it."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.Conv2d(4, 5, 1)]
    model = nn.Sequential(*layers, BatchNormAct2d(5, act_layer=nn.SiLU)).double()
    x, weight = torch.randn(6, 3, 5, 5).double(), torch.randn(6, 5, 3, 3).double()
    if size > 1:
        join_batch_norm(model)
    for _ in range(2):
        out = model(x[rank::size])
    (out * weight[rank::size]).sum().backward()
    gradients = {f"gradient of {k}": p.grad for k, p in model.named_parameters()}
    return {"out": out.detach(), **gradients, **model.state_dict()}


def refusal(config, out):
    try:
        train(config, out)
    except LandcueError as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


def main():
    configs = {k: make_config(v) for k, v in json.loads(Path(sys.argv[1]).read_text()).items()}
    out = Path(sys.argv[2])
    dist.init_process_group("gloo")  # one for all the runs
    rank = dist.get_rank()
    torch.save(normalized(rank, dist.get_world_size()), out / f"norm{rank}.pt")
    found = {}
    for name, config in configs.items():
        summary = train(config, out / name)
        found[name] = summary.fingerprint
    again = train(next(iter(configs.values())), out / next(iter(configs)))
    found["again"] = again.fingerprint
    plain = next(iter(configs.values()))
    seeded = plain.model_copy(update={"seed": plain.seed + rank})
    found["other settings"] = refusal(seeded, out / "never")
    (out / "full").mkdir(exist_ok=True)
    (out / "full" / "photo.txt").write_text("x")
    found["full folder"] = refusal(plain, out / "full")
    elsewhere = plain.model_copy(
        update={"model": plain.model.model_copy(update={"init": str(out / "gone.npz")})}
    )
    found["no weights"] = refusal(elsewhere, out / "broken")
    (out / f"rank{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
