"""Test ``vario.remedies.slots_sampler``: losses that are weighted and told, and streams without an end."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.remedies.test_slots import PLAIN, run
from tests.remedies.treated import treated
from vario.remedies.slots_sampler import _error_norm
from vario.remedies.slots_told import Told

# Each example carries its number, so that the script can work out what its loss should have been.
WEIGHED = """
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, RandomSampler, TensorDataset

    torch.manual_seed(1)
    x, y, number = torch.randn(24, 3, 4), TARGET, torch.arange(24)
    loader = DataLoader(TensorDataset(x, y, number), batch_size=5, ORDER)
    weight = torch.zeros(4, 4, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    values, numbers = [], []
    for epoch in range(EPOCHS):
        for data, target, i in loader:
            output = data @ weight
            loss = LOSS
            counts = loader.batch_sampler.sampler.weights(i) if COUNTS else torch.ones(len(i))
            with torch.no_grad():
                each = EACH
                values.append((loss.item(), ((each.reshape(len(i), -1).sum(1) * counts).sum() / OVER).item()))
            numbers.append(i.tolist())
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            if len(values) == 40: break
    result = {"values": values, "numbers": numbers, "chance": torch.get_rng_state()}
"""
TOKENS = {  # a language model's loss: targets of all examples in a row, some of them to be ignored
    "TARGET": "torch.where(torch.rand(24, 3) < 0.3, -1, torch.randint(4, (24, 3)))",
    "LOSS": "F.cross_entropy(output.view(-1, 4), target.view(-1), ignore_index=-1)",
    "EACH": "F.cross_entropy(output.view(-1, 4), target.view(-1), ignore_index=-1, reduction='none')",
    "OVER": "(target != -1).sum()",
}
LOGS = {
    "TARGET": "torch.randint(4, (24,))",
    "LOSS": "F.nll_loss(output[:, 0].log_softmax(1), target)",
    "EACH": "F.nll_loss(output[:, 0].log_softmax(1), target, reduction='none')",
    "OVER": "len(target)",
}
SUMS = {
    "TARGET": "(torch.rand(24, 1) < 0.3).float()",
    "LOSS": "torch.nn.BCELoss(reduction='sum')(output[:, 0, :1].sigmoid(), target)",
    "EACH": "F.binary_cross_entropy(output[:, 0, :1].sigmoid(), target, reduction='none')",
    "OVER": "1",
}
MEANS = {
    "TARGET": "torch.randn(24, 3, 4)",
    "LOSS": "F.mse_loss(output, target)",
    "EACH": "F.mse_loss(output, target, reduction='none')",
    "OVER": "output.numel()",
}
ENDLESS = "sampler=RandomSampler(x, replacement=True, num_samples=10**9)"


def script(parts: dict[str, str], order: str = "shuffle=True", counts: str = "True", epochs: int = 4) -> str:
    made = WEIGHED.replace("EPOCHS", str(epochs)).replace("ORDER", order).replace("COUNTS", counts)
    for name, text in parts.items():
        made = made.replace(name, text)
    return made


@pytest.mark.parametrize("parts", [TOKENS, LOGS, SUMS, MEANS], ids=["tokens", "logs", "sums", "means"])
@pytest.mark.parametrize("method", ["infobatch:epochs=9", "importance"])
def test_a_loss_is_made_of_the_weighted_losses_of_its_examples(
    method: str, parts: dict[str, str], tmp_path: Path
) -> None:
    values = run(tmp_path, method, script(parts)).result["values"]
    got, expected = torch.tensor(values).T
    assert torch.allclose(got, expected, rtol=1e-5)
    plain = torch.tensor(run(tmp_path, method, script(parts, counts="False")).result["values"])
    assert torch.allclose(plain[:5, 0], plain[:5, 1], rtol=1e-5), "all count one in the first epoch"
    assert not torch.allclose(plain[5:, 0], plain[5:, 1], rtol=1e-3), "and not in the next ones"


def test_draws_without_an_end_become_epochs_of_the_sampler(tmp_path: Path) -> None:
    bare = treated(script(TOKENS, ENDLESS, "False", 1), None, tmp_path).result
    made = run(tmp_path, "infobatch:epochs=9", script(TOKENS, ENDLESS, "False", 1))
    assert made.data("sampler") | {"call": ""} == {
        "treatment": "infobatch:epochs=9", "slot": "sampler", "from": "RandomSampler", "to": "InfoBatch",
        "call": "",
    }  # fmt: skip
    drawn = [number for numbers in made.result["numbers"] for number in numbers]
    assert len(drawn) == 200 and sorted(drawn[:24]) == list(range(24)), "the first epoch has every example"
    assert len(set(drawn[24:48])) < 24, "the next ones leave easy ones out"
    assert torch.equal(made.result["chance"], bare["chance"])
    made = run(tmp_path, "imbalance", script(SUMS, ENDLESS, "False", 1))  # one that weighs nothing
    assert len(made.result["values"]) == 40


def test_a_sampler_over_some_of_the_data_is_the_scripts_own_choice(tmp_path: Path) -> None:
    made = treated(script(TOKENS, "sampler=RandomSampler(range(9))", "False", 1), "infobatch", tmp_path)
    assert made.code == 97 and "chooses the examples" in made.events[-1][2]["reason"]


def test_a_sampler_sees_losses_and_drops_examples(tmp_path: Path) -> None:
    made = run(tmp_path, "infobatch:epochs=9,ratio=0.9")
    assert sum(made.result["sizes"][:6]) == 96 and len(made.result["sizes"]) < 18
    ahead = PLAIN.replace("in loader:", "in ahead(loader):").replace(
        "for epoch in range(3):",
        "def ahead(loader):\n"
        "        last = None\n"
        "        for batch in loader:\n"
        "            if last is not None: yield last\n"
        "            last = batch\n"
        "        yield last\n"
        "    for epoch in range(3):",
    )
    assert run(tmp_path, "infobatch:epochs=9,ratio=0.9", ahead).result["sizes"] == made.result["sizes"]


def test_a_sampler_that_cannot_be_told_losses_ends_the_run(tmp_path: Path) -> None:
    flipped = PLAIN.replace("criterion(model(data), target)", "criterion(model(data), 1 - target)")
    made = treated(flipped, "infobatch", tmp_path)
    assert made.code == 97 and "not a tensor of the batch" in made.events[-1][2]["reason"]
    made = run(
        tmp_path, "infobatch", PLAIN.replace("criterion(model(data), target)", "model(data).square().mean()")
    )
    assert ("treatment_unused", "sampler-losses") in made.kinds()


PROBABLE, NUMBERS = torch.rand(6, 3), torch.randn(6, 3)
CLASSES = torch.tensor([0, 1, 2, -100, 1, 0])


@pytest.mark.parametrize(
    ("name", "output", "target"),
    [
        ("cross_entropy", NUMBERS, CLASSES),
        ("nll_loss", NUMBERS, CLASSES.clamp(min=0)),
        ("mse_loss", NUMBERS, PROBABLE),
        ("binary_cross_entropy_with_logits", NUMBERS, PROBABLE),
        ("binary_cross_entropy", NUMBERS, PROBABLE),
    ],
)
def test_error_norms_are_those_of_the_gradients_at_the_logits(
    name: str, output: torch.Tensor, target: torch.Tensor
) -> None:
    """mse_loss is twice that, for every example alike."""
    function = getattr(F, name)
    logits = output.clone().requires_grad_()
    given = {"nll_loss": logits.log_softmax(1), "binary_cross_entropy": logits.sigmoid()}.get(name, logits)
    losses = function(given, target, reduction="none")
    losses.sum().backward()
    assert logits.grad is not None
    bound = inspect.signature(function).bind(given, target)
    bound.apply_defaults()
    found = _error_norm(name, given, target, bound, 6, Told("importance"))
    wanted = torch.linalg.vector_norm(logits.grad, dim=1) / (2 if name == "mse_loss" else 1)
    assert torch.allclose(found, wanted, atol=1e-6)
