"""Sharded models on two processes, of both generations of FSDP, beside one process with the whole batch."""

import multiprocessing
import os

import pytest
import torch
from ranks import PORTS
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.nn import functional as F

from irl import IRLLoss, tap

X, Y = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
NOISY = X + 0.3
WHOLE = StateDictOptions(full_state_dict=True)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def steps(model, rows):
    """Two updates, the second on samples without labels: weights above the layers have no gradient of their own."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for labelled in (True, False):
        loss = (lambda view: F.cross_entropy(view.logits, Y[rows])) if labelled else None
        terms = IRLLoss()(model, X[rows], [NOISY[rows]], loss)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()


def first_generation(model):
    return FullyShardedDataParallel(
        model, device_id=torch.device("cpu"), sharding_strategy=ShardingStrategy.FULL_SHARD, use_orig_params=True
    )


def second_generation(model):
    mesh = distributed.device_mesh.init_device_mesh("cpu", (2,))
    fully_shard(model.model[2], mesh=mesh)
    return fully_shard(model, mesh=mesh)


def rank(number, queue, port, shard):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=number, world_size=2)
    net = network()
    model = shard(tap(net, ["1", "3"]))
    steps(model, slice(4 * number, 4 * number + 4))
    queue.put((number, {name: value.tolist() for name, value in get_model_state_dict(model, options=WHOLE).items()}))
    distributed.destroy_process_group()


@pytest.mark.parametrize("shard", [first_generation, second_generation])
def test_two_processes_equal_one_with_the_whole_batch(shard):
    context = multiprocessing.get_context("fork")
    queue, port = context.SimpleQueue(), next(PORTS)
    processes = [context.Process(target=rank, args=(i, queue, port, shard)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    found = dict(queue.get() for _ in processes)
    own = network()
    steps(tap(own, ["1", "3"]), slice(0, 8))
    states = [state for state in found.values() if state]
    assert states
    for state in states:
        # The first generation looks for its parameters by their places, in the wrapper of the tap.
        prefix = "model." if shard is first_generation else ""
        expected = {prefix + name: value for name, value in own.state_dict().items()}
        torch.testing.assert_close({name: torch.tensor(value) for name, value in state.items()}, expected)
