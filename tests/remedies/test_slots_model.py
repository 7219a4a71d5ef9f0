"""Test ``vario.remedies.slots_model`` and the settings that mend a fault, each in a script that has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.remedies.treated import Treated, treated
from vario.remedies.slots_model import _Moments

SCRIPT = """
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset
    torch.manual_seed(1)
    x = torch.randn(64, 6)
    y = (x[:, 0] > 0.2).long()
    FIRST
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 2))
    built = {k: v.detach().clone() for k, v in model.state_dict().items()}
    BUILT
    optimizer = torch.optim.SGD(OWN, lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 100)
    losses, modes, sizes, ends = [], [], [], []
    model[2].register_forward_hook(lambda m, a, o: modes.append((m.training, torch.is_grad_enabled())))
    for epoch in range(2):
        for data, target in DataLoader(TensorDataset(x, y), batch_size=16):
            sizes.append(len(data))
            loss = LOSS
            optimizer.zero_grad()
            loss.backward()
            gradient = model[0].weight.grad.clone() if model[0].weight.grad is not None else None
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            ends.append({k: v.detach().clone() for k, v in model.named_parameters()})
            left = model[3].weight.grad.abs().max().item()
        EVALUATE
        with torch.no_grad():
            held = F.cross_entropy(model(x), y).item()
    result = dict(built=built, losses=losses, modes=modes, sizes=sizes, ends=ends, left=left, held=held,
                  gradient=gradient, training=model.training, chance=torch.get_rng_state())
"""


def script(
    *,
    first: str = "",
    built: str = "",
    own: str = "model.parameters()",
    loss: str = "F.cross_entropy(model(data), target)",
    evaluate: str = "",
) -> str:
    words = {"FIRST": first, "BUILT": built, "OWN": own, "LOSS": loss, "EVALUATE": evaluate}
    text = SCRIPT
    for word, given in words.items():
        text = text.replace(word, given)
    return text


def run(place: Path, text: str, treatment: str | None, code: int = 0) -> Treated:
    made = treated(text, treatment, place)
    assert made.code == code, (made.error, made.events)
    return made


def test_layers_start_as_torch_starts_them(tmp_path: Path) -> None:
    sick = script(built="[nn.init.constant_(p, 3.0) for p in model.parameters()]")
    bare, made = run(tmp_path, sick, None), run(tmp_path, sick, "start.usual=true")
    weight = made.result["ends"][0]["0.weight"]
    assert float(bare.result["ends"][0]["0.weight"].std()) < 0.05
    assert 0.1 < float(weight.std()) < 0.6 and float(weight.abs().max()) < 0.8
    assert made.data("start")["layers"] == 3
    assert torch.equal(made.result["chance"], bare.result["chance"])


def test_weights_start_by_fan_in(tmp_path: Path) -> None:
    wide = script(built="[nn.init.constant_(p, 3.0) for p in model.parameters()]").replace("8", "800")
    first = run(tmp_path, wide.replace("lr=0.1", "lr=0.0"), "start.fan_in=true").result["ends"][0]
    for layer, fan_in in (("0", 6), ("3", 800)):
        assert float(first[f"{layer}.weight"].std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
        assert not first[f"{layer}.bias"].any()
    assert torch.equal(first["2.weight"], torch.ones(800))


def test_weights_that_another_model_trains_or_that_learned_already_start_no_more(tmp_path: Path) -> None:
    """A teacher is trained by no optimizer; a part that was called alone before has started."""
    text = script(
        built="teacher = nn.Linear(6, 2).requires_grad_(False); kept = teacher.weight.clone()",
        own="[p for p in model.parameters()]",
        loss="F.cross_entropy((model(data) if epoch else model[3](model[:3](data))) + teacher(data), target)",
        evaluate="teaching = torch.equal(teacher.weight, kept)",
    ).replace("result = dict(", "result = dict(teaching=teaching, ")
    bare, made = run(tmp_path, text, None), run(tmp_path, text, "start.usual=true")
    assert made.result["teaching"] and made.data("start")["layers"] == 2
    assert made.result["losses"] != bare.result["losses"]
    before, after = (
        made.result["ends"][3],
        made.result["ends"][4],
    )  # the last of one epoch, the first of another
    assert all(float((before[name] - after[name]).abs().max()) < 0.1 for name in before)


def test_forgotten_and_frozen_parameters_learn(tmp_path: Path) -> None:
    sick = script(built="model[3].bias.requires_grad_(False)", own="[model[3].weight]")
    bare, made = run(tmp_path, sick, None), run(tmp_path, sick, "parameters.learn=true")
    names = set(made.result["ends"][0])

    def moved(of: Treated) -> set[str]:
        first, last = of.result["ends"][0], of.result["ends"][-1]
        return {name for name in names if not torch.equal(first[name], last[name])}

    assert moved(bare) == {"3.weight"} and moved(made) == names
    assert set(made.data("parameters")["added"]) == names - {"3.weight"}


def test_the_model_is_in_the_mode_of_what_it_does(tmp_path: Path) -> None:
    sick = script(evaluate="model.eval()")  # once, and never back
    assert (False, True) in run(tmp_path, sick, None).result["modes"]
    made = run(tmp_path, sick, "mode.training=true")
    assert set(made.result["modes"]) == {(True, True), (False, False)} and not made.result["training"]
    forgets = script()  # evaluates in train mode
    assert (True, False) in run(tmp_path, forgets, None).result["modes"]
    made = run(tmp_path, forgets, "mode.evaluation=true")
    assert set(made.result["modes"]) == {(True, True), (False, False)} and made.result["training"]


def test_inputs_are_shifted_and_scaled(tmp_path: Path) -> None:
    plain = run(tmp_path, script(), None).result
    made = run(tmp_path, script(first="x = x * 50 + 100"), "input.mean=100+input.std=50").result
    assert made["losses"] == pytest.approx(plain["losses"], rel=1e-4)
    assert made["held"] == pytest.approx(plain["held"], rel=1e-4)
    made = run(tmp_path, script(first="x = x * torch.logspace(0, 5, 6)"), "input.standardized=true").result
    assert made["losses"] == pytest.approx(plain["losses"], rel=0.5)
    again = run(
        tmp_path,
        script(first="x = x * torch.logspace(-3, 4, 6) + 7", loss="F.cross_entropy(model(data), target)"),
        "input.standardized=true",
    ).result
    assert again["losses"] == pytest.approx(made["losses"], rel=1e-3)  # whatever the units were


def test_training_is_that_on_standardized_targets(tmp_path: Path) -> None:
    line = "y = 5.0 * x[:, :1] + x[:, 1:2]; y = (y - y.mean()) / y.std(); "
    loss = "F.mse_loss(model(data)[:, :1], target)"
    text = SCRIPT.replace("F.cross_entropy(model(x), y).item()", "model(x)[:, :1].mean().item()")

    def of(first: str, treatment: str | None) -> Treated:
        words = {
            "FIRST": line + first,
            "BUILT": "",
            "OWN": "model.parameters()",
            "LOSS": loss,
            "EVALUATE": "",
        }
        made = text
        for word, given in words.items():
            made = made.replace(word, given)
        return run(tmp_path, made, treatment)

    plain, made = of("", None), of("y = y * 400 + 9000", "target.mean=9000+target.std=400")
    for name, weight in plain.result["ends"][-1].items():
        assert torch.allclose(weight, made.result["ends"][-1][name], atol=1e-4), name
    assert made.result["held"] == pytest.approx(9000 + 400 * plain.result["held"], rel=1e-4)


def test_of_several_models_no_one_is_taken_for_the_first(tmp_path: Path) -> None:
    two = script(loss="F.cross_entropy(model[3](model[:3](data)), target)")
    made = run(tmp_path, two, "input.mean=1+input.std=2", 97)
    assert "several models" in made.events[-1][2]["reason"]


def test_gradients_are_cleared_after_each_step(tmp_path: Path) -> None:
    sick = script().replace("optimizer.zero_grad()", "pass")
    bare, made, right = (
        run(tmp_path, *given) for given in ((sick, None), (sick, "gradient.cleared=true"), (script(), None))
    )
    assert made.result["left"] == 0 and made.result["losses"] == right.result["losses"]
    assert bare.result["losses"] != right.result["losses"]


def test_weights_stay_after_the_step_that_is_the_last(tmp_path: Path) -> None:
    bare, made = run(tmp_path, script(), None), run(tmp_path, script(), "schedule.stop_after=3")
    for name, weight in bare.result["ends"][2].items():
        assert torch.equal(weight, made.result["ends"][2][name])
        assert torch.equal(weight, made.result["ends"][-1][name])
    assert not torch.equal(bare.result["ends"][2]["0.weight"], bare.result["ends"][-1]["0.weight"])


def test_a_schedule_is_as_much_slower_as_is_asked(tmp_path: Path) -> None:
    text = """
        import torch
        from torch.optim.lr_scheduler import ExponentialLR, SequentialLR
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        parts = [ExponentialLR(optimizer, 0.5), ExponentialLR(optimizer, 0.1)]
        schedule = SequentialLR(optimizer, parts, [2])
        result = []
        for step in range(12):
            optimizer.step()
            result.append(optimizer.param_groups[0]["lr"])
            schedule.step()
        torch.save(schedule.state_dict(), "/dev/null")
    """
    bare = run(tmp_path, text, None).result
    assert bare[:4] == [1, 0.5, 1, 0.1]
    assert run(tmp_path, text, "schedule.slower=1").result == bare
    made = run(tmp_path, text, "schedule.slower=3")
    assert made.result == [rate for rate in bare[:4] for _ in range(3)]
    assert made.data("schedule")["of"] == "SequentialLR"


def test_a_loss_of_probabilities_is_that_of_their_logits(tmp_path: Path) -> None:
    sick = script(loss="F.cross_entropy(model(data).softmax(1), target)")
    made, right = run(tmp_path, sick, "loss.probabilities=true"), run(tmp_path, script(), None)
    assert made.result["losses"] == pytest.approx(right.result["losses"], rel=1e-4)
    sick = script(loss="F.binary_cross_entropy_with_logits(model(data)[:, 0].sigmoid(), target.float())")
    right = script(loss="F.binary_cross_entropy_with_logits(model(data)[:, 0], target.float())")
    made = run(tmp_path, sick, "loss.probabilities=true")
    assert made.result["losses"] == pytest.approx(run(tmp_path, right, None).result["losses"], rel=1e-4)


def test_what_is_no_probability_is_not_taken_for_one(tmp_path: Path) -> None:
    made = run(
        tmp_path, script(loss="F.nll_loss(model(data).log_softmax(1), target)"), "loss.probabilities=true", 97
    )
    assert "outside of 0 to 1" in made.events[-1][2]["reason"]


def test_classes_count_by_their_weights(tmp_path: Path) -> None:
    weighed = script(loss="F.cross_entropy(model(data), target, weight=torch.tensor([0.5, 3.0]))")
    right, made = run(tmp_path, weighed, None), run(tmp_path, script(), "loss.weight=(0.5,3)")
    assert made.result["losses"] == right.result["losses"]
    assert made.result["held"] != right.result["losses"][-1]
    assert "has a weight" in run(tmp_path, weighed, "loss.weight=(0.5,3)", 97).events[-1][2]["reason"]
    assert "3 weights" in run(tmp_path, script(), "loss.weight=(1,2,3)", 97).events[-1][2]["reason"]


def test_a_sure_answer_keeps_a_loss_in_float64(tmp_path: Path) -> None:
    text = """
        import torch
        logits = torch.tensor([[30.0, 0.0]], requires_grad=True)
        loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([2.0, 1.0]))(logits, torch.tensor([0]))
        loss.backward()
        result = loss.item(), loss.dtype, logits.grad.abs().max().item()
    """
    assert run(tmp_path, text, None).result[0] == 0
    loss, kind, slope = run(tmp_path, text, "loss.float64=true").result
    assert loss == pytest.approx(9.357623e-14, rel=1e-4) == slope and kind is torch.float32


def test_wrong_labels_are_expected_at_their_rate(tmp_path: Path) -> None:
    """The loss is the likelihood of a label that is another one in three of ten cases, written out."""
    p = "model(data).softmax(1)[torch.arange(len(data)), target]"
    right = run(tmp_path, script(loss=f"-(0.7 * {p} + 0.3 * (1 - {p})).log().mean()"), None)
    made = run(tmp_path, script(), "loss.wrong_labels=0.3")
    assert made.result["losses"] == pytest.approx(right.result["losses"], rel=1e-4)
    none = run(tmp_path, script(), "loss.wrong_labels=0").result["losses"]
    assert none == pytest.approx(run(tmp_path, script(), None).result["losses"], rel=1e-4)
    made = run(tmp_path, script(), "loss.wrong_labels=0.5", 97)
    assert "of 2 classes tells nothing" in made.events[-1][2]["reason"]


def test_errors_beyond_delta_pull_with_constant_force(tmp_path: Path) -> None:
    loss = "nn.MSELoss()(model(data)[:, 0], 3.0 * target)"
    made = run(tmp_path, script(loss=loss), "loss.huber=0.5")
    right = loss.replace("nn.MSELoss()", "2 * nn.HuberLoss(delta=0.5)")
    assert made.result["losses"] == run(tmp_path, script(loss=right), None).result["losses"]
    assert run(tmp_path, script(loss=loss), "loss.huber=1000").result["losses"] == pytest.approx(
        run(tmp_path, script(loss=loss), None).result["losses"], rel=1e-4
    )


def test_broken_examples_are_left_out_of_training(tmp_path: Path) -> None:
    sick = script(first="x[3, 2] = float('nan'); x[40] = float('inf')")
    bare, made = run(tmp_path, sick, None), run(tmp_path, sick, "loader.drop_broken=true")
    assert not any(map(torch.isfinite, torch.tensor(bare.result["losses"])))
    assert made.result["sizes"] == [15, 16, 15, 16] * 2
    assert all(map(torch.isfinite, torch.tensor(made.result["losses"])))


@pytest.mark.parametrize(
    "text",
    ["start.usual=true", "parameters.learn=true", "mode.training=true", "input.mean=1", "target.std=2"]
    + ["gradient.cleared=true", "schedule.stop_after=3", "loss.huber=1", "loader.drop_broken=true"]
    + ["schedule.slower=3", "loss.weight=(1,2)", "loss.float64=true", "start.fan_in=true"],
)
def test_what_was_never_reached_is_told(text: str, tmp_path: Path) -> None:
    made = treated("result = 1\n", text, tmp_path)
    assert made.result == 1 and made.kinds() == [("treatment_unused", text.partition(".")[0])]


def test_a_script_without_the_fault_keeps_every_bit(tmp_path: Path) -> None:
    healthy = script(evaluate="model.eval()").replace("sizes.append", "model.train(); sizes.append")
    bare = run(tmp_path, healthy, None).result
    for text in ("gradient.cleared=true", "loader.drop_broken=true", "schedule.stop_after=100"):
        assert run(tmp_path, healthy, text).result["losses"] == bare["losses"], text
    for text in ("parameters.learn=true", "mode.training=true"):
        assert treated(healthy, text, tmp_path).result["losses"] == bare["losses"], text


def test_a_model_that_no_optimizer_trains_stays_frozen(tmp_path: Path) -> None:
    teacher = script(
        built="teacher = nn.Linear(6, 2).requires_grad_(False)",
        loss="F.cross_entropy(model(data) + teacher(data), target)",
        evaluate="teaching = teacher.weight.requires_grad",
    ).replace("result = dict(", "result = dict(teaching=teaching, ")
    made = treated(teacher, "parameters.learn=true", tmp_path)
    assert made.result["teaching"] is False


def test_a_batch_norm_becomes_a_norm_of_groups_of_sixteen_channels(tmp_path: Path) -> None:
    norms = "import torch\nresult = str([torch.nn.BatchNorm2d(c) for c in (8, 48)])\n"
    made = treated(norms, "layer.BatchNorm2d=GroupNorm", tmp_path)
    assert "GroupNorm(1, 8," in made.result and "GroupNorm(3, 48," in made.result


def test_mean_and_spread_over_batches_are_those_of_all_rows() -> None:
    rows = torch.randn(90, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.0])
    rows += torch.arange(90)[:, None] / 10  # batches have means of their own
    known = _Moments()
    assert known.standardized(rows) is rows  # nothing is known yet
    for batch in rows.split([8, 1, 50, 31]):
        known.add(batch)
    wanted = (rows.double() - rows.double().mean(0)) / rows.double().std(0, unbiased=False)
    assert torch.allclose(known.standardized(rows).double(), wanted, atol=1e-6)
    known = _Moments()
    known.add(torch.full((4, 1), 7.0))
    assert known.standardized(torch.tensor([[9.0]])).item() == 2.0  # without a spread, only moved
