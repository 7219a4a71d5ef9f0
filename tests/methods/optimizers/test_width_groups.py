"""Test ``vario.methods.optimizers.width_groups``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vario.methods.optimizers import alignment_of, width_exponent, width_groups

# (input, hidden, readout), worked by hand: full alignment, then none
TABLE = {
    ("standard", "adam"): ((0, 1, 1), (0, 0.5, 0.5)),
    ("ntk", "adam"): ((0, 0.5, 0.5), (0, 0, 0)),
    ("mup", "adam"): ((0.5, 1, 0.5), (0.5, 0.5, 0)),
    ("mean-field", "adam"): ((0, 0.5, 0), (0, 0, -0.5)),
    ("standard", "sgd"): ((-0.5, 0.5, 1), (-0.5, 0, 0.5)),
    ("ntk", "sgd"): ((-0.5, -0.5, 0), (-0.5, -1, -0.5)),
    ("mup", "sgd"): ((0, 0, 0), (0, -0.5, -0.5)),
    ("mean-field", "sgd"): ((-1, -1, -1), (-1, -1.5, -1.5)),
    ("standard", "adafactor"): ((0, 0.5, 0.5), (0, 0, 0)),
    ("mup", "adafactor"): ((0, 0.5, 0), (0, 0, -0.5)),
}


@pytest.mark.parametrize(("key", "rows"), TABLE.items(), ids=str)
def test_table(key, rows):
    for alignment, row in zip((1.0, 0.5), rows, strict=True):
        for role, expected in zip(("input", "hidden", "readout"), row, strict=True):
            c = width_exponent(role, parametrization=key[0], optimizer=key[1], alignment=alignment)
            assert c == pytest.approx(expected), (role, alignment)


def tower(n):
    return nn.Sequential(
        nn.Embedding(11, n), nn.Linear(n, 4 * n), nn.LayerNorm(4 * n), nn.Linear(4 * n, n), nn.Linear(n, 11)
    )


def test_roles_and_rates():
    groups = {g["role"]: g for g in width_groups(tower(32), tower(8), lr=0.1)}
    assert {role: g["lr"] for role, g in groups.items()} == pytest.approx(
        {"input": 0.1, "hidden": 0.025, "readout": 0.025, "fixed": 0.1}
    )
    shapes = {role: [tuple(p.shape) for p in g["params"]] for role, g in groups.items()}
    assert shapes["hidden"] == [(128, 32), (32, 128)] and shapes["readout"] == [(11, 32)]
    assert (11, 32) in shapes["input"] and shapes["fixed"] == [(11,)]
    torch.optim.AdamW(width_groups(tower(32), tower(8), lr=0.1))


def test_every_parameter_once():
    model = tower(16)
    grouped = [p for g in width_groups(model, tower(8), lr=1.0) for p in g["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}
    assert len(grouped) == len(list(model.parameters()))


def test_refuses():
    with pytest.raises(ValueError, match="no parameter differs"):
        width_groups(tower(8), tower(8), lr=0.1)
    with pytest.raises(ValueError, match="base model has no parameter"):
        width_groups(tower(8), nn.Linear(2, 2), lr=0.1)
    with pytest.raises(ValueError, match="parametrization 'wide'"):
        width_exponent("hidden", parametrization="wide")


@pytest.mark.slow
def test_best_rate_stays_put():
    """P355, accept: digits MLP, widths 64 to 1,024: the best rate moves by at most one step of the grid."""
    from tests.methods.digits import digits

    x, y, *_ = digits()
    rates = [2.0**k * 1e-4 for k in range(0, 12)]

    def net(n):
        return nn.Sequential(nn.Linear(64, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 10))

    best = {}
    for n in (64, 256, 1024):
        losses = []
        for lr in rates:
            total = 0.0
            for seed in (181, 182, 183):
                torch.manual_seed(seed)
                model, draw = net(n), torch.Generator().manual_seed(seed)
                groups = width_groups(model, net(64), lr=lr) if n > 64 else model.parameters()
                optimizer = torch.optim.Adam(groups, lr=lr)
                for _ in range(60):
                    pick = torch.randint(len(x), (128,), generator=draw)
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
                    optimizer.step()
                total += nn.functional.cross_entropy(model(x), y).item()
            losses.append(total)
        best[n] = losses.index(min(losses))
    assert max(best.values()) - min(best.values()) <= 1, best


def test_alignment_of_updates_along_the_inputs_and_of_independent_ones():
    """P355, accept: 1 of an aligned update of rank one, 1/2 of a random one, within .05."""
    draw = torch.Generator().manual_seed(11)
    x, out = torch.randn(1, 1024, generator=draw), torch.randn(64, generator=draw)
    assert alignment_of(torch.outer(out, x[0]), x) == pytest.approx(1, abs=1e-6)
    many, change = (torch.randn(rows, 1024, generator=draw) for rows in (200, 64))
    assert alignment_of(change, many.view(4, 50, 1024)) == pytest.approx(0.5, abs=0.05)
    assert alignment_of(3 * change, 7 * many) == pytest.approx(alignment_of(change, many))
    with pytest.raises(ValueError, match=r"must be \(out, in\)"):
        alignment_of(change, many[:, :5])
    with pytest.raises(ValueError, match="zero"):
        alignment_of(0 * change, many)
