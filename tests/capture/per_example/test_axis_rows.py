"""Test rows of no fixed number to an example: experts, graphs, sets; right by example, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.capture.per_example.test_probe import B, Model, agree, draw, measure, one_by_one, seeded
from vario.capture.per_example import axis_rules, probe
from vario.capture.per_example.batch_axis import Examples, Layout, agreed, only, owned

T, D, EXPERTS = 5, 6, 3
Route = Callable[[nn.Module, Tensor], Tensor]


def by_where(m: nn.Module, x: Tensor) -> Tensor:
    """As in Mixtral: the rows of each expert are looked up, and its outputs added to them."""
    weights, chosen = m.gate(x).topk(2)
    weights, found = weights.softmax(1), torch.zeros_like(x)
    for number, expert in enumerate(m.experts):
        row, place = torch.where(chosen == number)
        found.index_add_(0, row, expert(x[row]) * weights[row, place, None])
    return found


def by_order(m: nn.Module, x: Tensor) -> Tensor:
    """As in DeepSeek: sorted by expert, cut, joined, and put back."""
    weights, chosen = m.gate(x).softmax(1).topk(2)
    order, counts = chosen.flatten().argsort(), torch.bincount(chosen.flatten(), minlength=EXPERTS).tolist()
    rows, start, parts = x[order // 2], 0, []
    for expert, count in zip(m.experts, counts, strict=True):
        parts.append(expert(rows[start : start + count]))
        start += count
    outputs = torch.cat(parts)
    back = torch.empty_like(outputs)
    back[order] = outputs
    return (back.view(len(x), 2, D) * weights[..., None]).sum(1)


def by_split(m: nn.Module, x: Tensor) -> Tensor:
    weight, chosen = m.gate(x).softmax(1).max(1)
    order, counts = chosen.argsort(), torch.bincount(chosen, minlength=EXPERTS).tolist()
    parts = [expert(rows) for expert, rows in zip(m.experts, x[order].split(counts), strict=True)]
    return torch.cat(parts)[order.argsort()] * weight[:, None]


def by_scatter(m: nn.Module, x: Tensor) -> Tensor:
    weight, chosen = m.gate(x).softmax(1).max(1)
    found = torch.zeros_like(x)
    for number, expert in enumerate(m.experts):
        rows = (chosen == number).nonzero().expand(-1, D)
        found = found.scatter_add(0, rows, expert(x.gather(0, rows)))
    return found * weight[:, None]


def by_copy(m: nn.Module, x: Tensor) -> Tensor:
    weight, chosen = m.gate(x).softmax(1).max(1)
    found = torch.zeros_like(x)
    for number, expert in enumerate(m.experts):
        rows = (chosen == number).nonzero().flatten()
        found = found.index_copy(0, rows, expert(x.index_select(0, rows)))
    return found * weight[:, None]


def by_product(m: nn.Module, x: Tensor) -> Tensor:
    """A matrix with a single one in each row sends rows to an expert, and its transpose brings them back."""
    weight, chosen = m.gate(x).softmax(1).max(1)
    found = torch.zeros_like(x)
    for number, expert in enumerate(m.experts):
        send = F.one_hot((chosen == number).nonzero().flatten(), len(x)).float()
        found = found + send.T @ expert(send @ x)
    return found * weight[:, None]


def by_room(m: nn.Module, x: Tensor) -> Tensor:
    """Each expert takes two rows; the others stay as they are."""
    found, chosen = x.clone(), m.gate(x).argmax(1)
    for number, expert in enumerate(m.experts):
        rows = (chosen == number).nonzero().flatten()[:2]
        found = found.index_put((rows,), expert(x[rows]))
    return found


def kept_in_one(m: nn.Module, x: Tensor) -> Tensor:
    """The weights of all experts are one parameter."""
    weight, chosen = m.gate(x).softmax(1).max(1)
    found = torch.zeros_like(x)
    for number in chosen.unique().tolist():
        rows = torch.where(chosen == number)[0]
        found.index_add_(0, rows, F.linear(x[rows], m.w[number]).relu())
    return found * weight[:, None]


ROUTES: list[Route] = [by_where, by_order, by_split, by_scatter, by_copy, by_product, by_room, kept_in_one]


def mixture(route: Route) -> nn.Module:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.into(x)
        hidden = hidden + m.attention(hidden, hidden, hidden)[0]
        return m.head(hidden + route(m, hidden.reshape(-1, D)).view(hidden.shape))

    parts: dict[str, nn.Module | nn.Parameter] = {"into": nn.Linear(D, D), "head": nn.Linear(D, 3)}
    if route is not by_room:
        parts["gate"] = nn.Linear(D, EXPERTS)
    else:
        parts["gate"] = nn.Linear(D, EXPERTS).requires_grad_(False)
    if route is kept_in_one:
        parts["w"] = nn.Parameter(draw(EXPERTS, D, D))
    else:
        parts["experts"] = nn.ModuleList(nn.Sequential(nn.Linear(D, D), nn.GELU()) for _ in range(EXPERTS))
    return Model(run, attention=nn.MultiheadAttention(D, 2, batch_first=True), **parts)


@pytest.mark.parametrize("route", ROUTES)
def test_experts_have_the_norms_of_a_backward_of_each_example(route: Route) -> None:
    model, x = seeded(lambda: mixture(route)), draw(B, T, D)
    weights = draw(B, T, 3, seed=5)
    needed = {name for name, p in model.named_parameters() if p.requires_grad}

    def losses() -> Tensor:
        return (model(x).tanh() * weights).flatten(1).sum(1) / B

    result, wanted = measure(model, losses().sum()), one_by_one(model, losses)
    assert result.missed == {} and result.checked and needed >= set(result.squares)
    for name, squares in result.squares.items():
        assert torch.allclose(squares, wanted[name], rtol=1e-4, atol=1e-10), name
    assert {name for name in needed if float(wanted[name].sum()) > 0} <= set(result.squares)


@pytest.mark.parametrize("route", [by_where, kept_in_one])
def test_products_and_spreads_of_experts_and_some_of_the_examples(route: Route) -> None:
    model, x = seeded(lambda: mixture(route)), draw(B, T, D)
    names = {id(p): n for n, p in model.named_parameters()}

    def look(**how: object) -> probe.ExampleGradients:
        loss = model(x).square().sum()
        heard = probe.Probe(loss, names, examples=B, **how)  # type: ignore[arg-type]
        loss.backward()
        return heard.close()

    everything = look(products=True)
    spread, some = look(spreads={}), look(picked=[0, 3], check=3)
    assert everything.missed == spread.missed == some.missed == {}
    for name, squares in everything.squares.items():
        assert torch.allclose(everything.products[name].diagonal(), squares, rtol=1e-4), name
        assert float(spread.spreads[name].sum()) == pytest.approx(float(squares.sum()), rel=1e-4), name
        assert torch.allclose(some.squares[name], squares[[0, 3]], rtol=1e-4), name


def test_an_expert_that_rows_come_back_from_to_another_place_is_refused() -> None:
    elsewhere = torch.randperm(B * T, generator=torch.Generator().manual_seed(0))

    def run(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.into(x)
        mixed = torch.zeros(B * T, D).index_add(0, elsewhere, m.expert(hidden.view(-1, D)))
        return m.head(hidden + mixed.view(hidden.shape))

    parts = {"into": nn.Linear(D, D), "expert": nn.Linear(D, D), "head": nn.Linear(D, 3)}
    model = seeded(lambda: Model(run, **parts))
    result = measure(model, model(draw(B, T, D)).square().sum(), check=None)
    assert {"into.weight", "into.bias"} <= set(result.missed) and "head.weight" in result.squares


@pytest.mark.parametrize("sizes", [[1, 3, 2, 5], [4, 2, 3, 2]])
def test_graphs_of_several_sizes_in_one_batch(sizes: list[int]) -> None:
    """Edges lead from node to node of the same graph, which is added up at last."""
    whose = torch.arange(B).repeat_interleave(torch.tensor(sizes))
    same = (whose[:, None] == whose) & (draw(len(whose), len(whose)) > -0.5)
    source, target = same.nonzero(as_tuple=True)

    def run(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.into(x).relu()
        hidden = hidden + torch.zeros(len(whose), D).index_add(0, target, m.message(hidden[source]))
        hidden = same.float() @ m.step(hidden).tanh()
        return m.head(torch.zeros(B, D).scatter_add(0, whose[:, None].expand(-1, D), hidden))

    parts = {name: nn.Linear(D, D) for name in ("into", "message", "step", "head")}
    agree(seeded(lambda: Model(run, **parts)), draw(len(whose), D))


def test_as_many_groups_as_examples_are_not_taken_for_them() -> None:
    model, group = seeded(lambda: nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, 1))), [0, 0, 3, 3]
    each = model(draw(B, D)).square().squeeze(1)
    result = measure(model, (torch.zeros(B).index_add(0, torch.tensor(group), each) * draw(B)).sum())
    assert result.squares == {} and "groups" in result.missed[""]


def test_a_table_is_looked_up_and_its_rows_are_nobodys() -> None:
    """By numbers and by a product with ones; also where the table is as long as the batch."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        numbers, other = torch.tensor([2, 0, 1, 2]), torch.tensor([2, 0, 3, 1])
        found = m.lin(x) + m.w[numbers] + F.one_hot(numbers, 4).float() @ m.v
        return found + m.u[other] + F.one_hot(other, 4).float() @ m.t

    tables = {name: nn.Parameter(draw(B, D)) for name in ("t", "u", "v", "w")}
    agree(seeded(lambda: Model(run, lin=nn.Linear(D, D), **tables)), draw(B, D))


def test_a_loss_that_is_added_up_over_the_examples_first_and_one_that_balances_experts() -> None:
    model, x = seeded(lambda: mixture(by_where)), draw(B, T, D)

    def shares(x: Tensor) -> Tensor:
        return model.gate(model.into(x).reshape(-1, D)).softmax(1)

    load = shares(x).detach().mean(0)

    def losses() -> Tensor:
        return (model(x).square().sum((1, 2)) + (shares(x) * load).view(B, -1).sum(1)) / B

    found = model(x).square().mean(0).sum() + T * (shares(x).mean(0) * load).sum()
    result, wanted = measure(model, found), one_by_one(model, losses)
    assert result.missed == {} and result.checked
    for name, squares in result.squares.items():
        assert torch.allclose(squares, wanted[name], rtol=1e-4, atol=1e-10), name


def test_a_row_alone_is_all_of_what_it_is_in() -> None:
    """As in Switch transformers: rows are looked up behind a dimension of one, and there may be but one."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.into(x)
        rows, found = hidden.reshape(-1, D), torch.zeros(B * T, D)
        for chosen in (torch.tensor([7]), torch.tensor([2, 9, 10])):
            found = found.index_add(0, chosen, m.expert(rows[None, chosen].reshape(-1, D)))
        return m.head(hidden + found.view(hidden.shape))

    parts = {"into": nn.Linear(D, D), "expert": nn.Linear(D, D), "head": nn.Linear(D, 3)}
    agree(seeded(lambda: Model(run, **parts)), draw(B, T, D))


def test_what_two_readers_tell_of_rows_is_put_together_or_contradicted() -> None:
    plain = Layout(0, 1, 2)
    assert owned(0, torch.tensor([0, 0, 1, 1]), 2) == plain
    assert owned(0, torch.tensor([0, 1, 0, 1]), 2) == Layout(0, 2, 1)
    one, other = Layout(0, 0, 0, (0, -1, 1, -1)), Layout(0, 0, 0, (-1, 0, -1, 1))
    assert agreed(one, other, 2) == plain and agreed(one, plain, 2) == plain
    assert agreed(one, Layout(0, 0, 0, (1, -1, 1, -1)), 2) is None and agreed(one, None, 2) is None
    assert agreed(plain, Layout(0, 2, 1), 2) is None and agreed(one, one._replace(dim=1), 2) is None
    rows, layout = draw(5, 3), Layout(0, 0, 0, (1, 0, 1, -1, 1))
    found = Examples(2).of(rows, layout).flatten(1, 2)
    assert torch.equal(found[0], torch.stack([rows[1], *torch.zeros(2, 3)]))
    assert torch.equal(found[1], rows[[0, 2, 4]])
    assert torch.equal(only(1, rows, layout), rows * torch.tensor([1.0, 0, 1, 0, 1])[:, None])


def test_no_rule_for_rows_is_without_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the operations that route is needed by one of the models above."""
    for name in ("Index", "IndexAdd", "IndexCopy", "Gather", "ScatterAdd", "Cat", "IndexPut"):
        with monkeypatch.context() as without:
            without.delitem(axis_rules._RULES, name)
            assert any(_missed(route) for route in ROUTES), name


def _missed(route: Route) -> bool:
    model = seeded(lambda: mixture(route))
    return bool(measure(model, model(draw(B, T, D)).square().sum(), check=None).missed)
