"""Weights sharded over processes (FSDP2 of torch, through transformers and accelerate)."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from train.models.base import StreamModel


def sharding_arguments(kind: str, model: StreamModel) -> dict[str, Any]:
    """Of TrainingArguments, for "full_shard" or "shard_grad_op" (weights are whole between forward and
    backward); nothing for "no".

    Each decoder layer is a unit of its own, as the transformers models inside name them.
    """
    if kind == "no":
        return {}
    inside = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    units = {name for module in inside for name in module._no_split_modules or ()}
    config = {
        "reshard_after_forward": kind == "full_shard",
        "transformer_layer_cls_to_wrap": sorted(units & {type(m).__name__ for m in model.modules()}),
        "state_dict_type": "FULL_STATE_DICT",
    }
    return {"fsdp": True, "fsdp_config": config}


def shard_on_cpu(accelerator: Accelerator, plugin_arguments: dict[str, Any]) -> None:
    """Accelerate passes over FSDP without a word when processes run on CPUs, where torch can do it too."""
    state = accelerator.state
    plugin = FullyShardedDataParallelPlugin(**plugin_arguments)
    if accelerator.mixed_precision != "no":
        plugin.set_mixed_precision(accelerator.mixed_precision)
    # The attributes that accelerate itself sets in the case of GPUs.
    state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, plugin


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in memory of its own on the CPU. Of a sharded one, all processes must ask for it."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().cpu().clone()


def gather_weights(model: nn.Module, keep: bool) -> dict[str, Tensor]:
    """State dict of a sharded model, one weight after another, in the processes that ``keep`` it."""
    state = {}
    for name, value in model.state_dict().items():
        gathered = whole(value)
        if keep:
            state[name] = gathered
    return state


def gather_optimizer(optimizer: torch.optim.Optimizer, keep: bool) -> dict[str, Any]:
    """State dict of an optimizer over sharded weights, as one over whole weights would write it."""
    state = optimizer.state_dict()
    gathered = {
        index: {name: whole(value) if isinstance(value, Tensor) else value for name, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {**state, "state": gathered} if keep else {}


def scatter_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state dict of whole weights; each process takes its shards."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, entry in state["state"].items():
        weight = weights[index]
        for name, value in entry.items():
            if isinstance(weight, DTensor) and isinstance(value, Tensor) and value.shape == weight.shape:
                value = value.to(weight.device)
                entry[name] = distribute_tensor(value, weight.device_mesh, weight.placements)
    optimizer.load_state_dict(state)
