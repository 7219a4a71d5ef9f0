"""Test ``vario.methods.losses.global_balance``."""

from __future__ import annotations

import functools
import gc

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from vario.methods.losses import GlobalBalanceLoss

EXPERTS, WIDTH = 4, 6


def tokens(seed=0):
    """Two micro-batches of different domains: they prefer different experts."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 40, WIDTH, generator=draw, dtype=torch.float64)
    x[0, :, 0] += 2
    x[1, :, 1] += 2
    return x


def router():
    torch.manual_seed(3)
    return nn.Linear(WIDTH, EXPERTS, dtype=torch.float64)


def dense(gate, selected, k=1):
    """The loss of one batch, written from the equation."""
    f = torch.stack([(selected == i).double().sum() for i in range(EXPERTS)]) / (len(gate) * k)
    return EXPERTS * (f * gate.softmax(1).mean(0)).sum()


def test_one_batch_follows_the_equation():
    gate = router()(tokens()[0])
    for k in (1, 2):
        picked = gate.topk(k).indices
        torch.testing.assert_close(GlobalBalanceLoss(EXPERTS)(gate, picked), dense(gate, picked, k))
    torch.testing.assert_close(
        GlobalBalanceLoss(EXPERTS)(torch.zeros(8, 4), torch.arange(8) % 4), torch.tensor(1.0)
    )


def test_mean_over_micro_batches_is_the_loss_of_the_whole():
    gates = [router()(x) for x in tokens()]
    picked = [g.argmax(1) for g in gates]
    counts = torch.bincount(torch.cat(picked), minlength=EXPERTS)
    loss = GlobalBalanceLoss(EXPERTS)
    mean = sum(loss(g, p, counts=counts) for g, p in zip(gates, picked, strict=True)) / 2
    torch.testing.assert_close(mean, dense(torch.cat(gates), torch.cat(picked)))


def test_buffer_holds_the_step_and_only_the_step():
    gates = [router()(x) for x in tokens()]
    picked = [g.argmax(1) for g in gates]
    loss = GlobalBalanceLoss(EXPERTS)
    loss(gates[0], picked[0])
    last = loss(gates[1], picked[1])
    counts = torch.bincount(torch.cat(picked), minlength=EXPERTS)
    torch.testing.assert_close(last, loss(gates[1], picked[1], counts=counts))
    with torch.no_grad():
        loss(gates[0], picked[0])
    loss.eval()(gates[0], picked[0])
    assert torch.equal(loss.buffer, counts)
    loss.train().reset()
    torch.testing.assert_close(loss(gates[0], picked[0]), dense(gates[0], picked[0]))


def _rank(rank: int, port: int, out) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = router()
    gate = model(tokens()[rank])
    GlobalBalanceLoss(EXPERTS)(gate, gate.argmax(1)).backward()
    dist.all_reduce(model.weight.grad)
    if rank == 0:
        out.put((model.weight.grad / 2).tolist())
    dist.barrier()
    gc.collect()
    dist.destroy_process_group()


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_processes_are_one_big_batch():
    """P191, accept (i): to 1e-6, where the micro-batch loss differs by more than 1e-3."""
    context = mp.get_context("spawn")
    out = context.SimpleQueue()
    workers = [context.Process(target=_rank, args=(r, port, out)) for port in [free_port()] for r in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    ours = torch.tensor(out.get(), dtype=torch.float64)

    def gradient(loss_of):
        model = router()
        loss_of([model(x) for x in tokens()]).backward()
        return model.weight.grad

    whole = gradient(lambda gates: dense(torch.cat(gates), torch.cat([g.argmax(1) for g in gates])))
    micro = gradient(lambda gates: sum(dense(g, g.argmax(1)) for g in gates) / 2)
    assert (ours - whole).abs().max() < 1e-6
    assert (micro - whole).abs().max() > 1e-3


def test_refuses():
    with pytest.raises(ValueError, match="1 experts"):
        GlobalBalanceLoss(1)
    with pytest.raises(ValueError, match="gate logits"):
        GlobalBalanceLoss(4)(torch.zeros(3, 5), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="expert 7"):
        GlobalBalanceLoss(4)(torch.zeros(3, 4), torch.tensor([0, 7, 1]))


SYMBOLS, DOMAINS, LENGTH = 12, 4, 32


@functools.cache
def languages():
    """One Markov chain per domain over the same symbols: each next symbol is likely one of two."""
    draw = torch.Generator().manual_seed(5)
    chains = torch.full((DOMAINS, SYMBOLS, SYMBOLS), 0.02)
    for chain in chains:
        for row in chain:
            row[torch.randperm(SYMBOLS, generator=draw)[:2]] += 1
    return chains / chains.sum(2, keepdim=True)


@functools.cache
def texts():
    """(domain, sequence, LENGTH): 400 sequences per domain."""
    draw = torch.Generator().manual_seed(6)
    x = torch.randint(SYMBOLS, (DOMAINS, 400, 1), generator=draw)
    for _ in range(LENGTH - 1):
        rows = languages()[torch.arange(DOMAINS)[:, None], x[:, :, -1]]  # (domain, sequence, SYMBOLS)
        nexts = torch.multinomial(rows.flatten(0, 1), 1, generator=draw)
        x = torch.cat([x, nexts.view(DOMAINS, 400, 1)], 2)
    return x


CONTEXT = 5


class Mixture(nn.Module):
    """Five symbols of context -> top-1 of four experts -> next symbol."""

    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, 8)
        self.mix = nn.Sequential(nn.Linear(8 * CONTEXT, width), nn.ReLU())
        self.gate = nn.Linear(width, EXPERTS)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, SYMBOLS)) for _ in range(EXPERTS)
        )

    def forward(self, x):
        h = self.mix(self.embed(x).flatten(1))  # (tokens, width)
        gate = self.gate(h)
        p, picked = gate.softmax(1).max(1)
        every = torch.stack([expert(h) for expert in self.experts], 1)
        return every[torch.arange(len(h)), picked] * p[:, None], gate, picked


def windows(sequences):
    """Contexts (tokens, CONTEXT) and the symbols that follow."""
    cut = sequences.unfold(1, CONTEXT + 1, 1).flatten(0, 1)
    return cut[:, :-1], cut[:, -1]


def specialised(scope, seed, steps=500, weight=0.1):
    """Mutual information of domain and expert (nats), and the largest load over the mean load."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    model, loss = Mixture(), GlobalBalanceLoss(EXPERTS)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        index = torch.randint(350, (DOMAINS, 4), generator=draw)
        micro = [windows(texts()[d, index[d]]) for d in range(DOMAINS)]  # a domain each
        out = [model(x) for x, _ in micro]
        counts = torch.bincount(torch.cat([o[2] for o in out]), minlength=EXPERTS)
        total = torch.zeros(())
        for (_, y), (scores, gate, picked) in zip(micro, out, strict=True):
            total = total + nn.functional.cross_entropy(scores, y)
            total = total + weight * loss(gate, picked, counts=counts if scope == "global" else None)
            loss.reset()
        optimizer.zero_grad()
        (total / DOMAINS).backward()
        optimizer.step()
    with torch.no_grad():
        picked = [model(windows(texts()[d, 350:])[0])[2] for d in range(DOMAINS)]
    joint = torch.stack([torch.bincount(p, minlength=EXPERTS) for p in picked]).double()
    joint = joint / joint.sum()
    free = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    information = (joint * (joint.clamp(min=1e-12) / free.clamp(min=1e-12)).log()).sum().item()
    return information, (EXPERTS * joint.sum(0).max()).item()


@pytest.mark.slow
def test_experts_specialise():
    """P191, accept (ii): mutual information >= 2 x that of the micro loss, both loads below 1.5."""
    for seed in (41, 42, 43):
        ours, ours_load = specialised("global", seed)
        micro, micro_load = specialised("micro", seed)
        assert max(ours_load, micro_load) < 1.5
        assert ours >= 2 * micro, (ours, micro)
