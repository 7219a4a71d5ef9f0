"""Test ``vario.remedies.slots``: each slot in one script, every method of the catalogue, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.remedies.treated import Treated, treated
from vario.remedies import catalog
from vario.remedies import treatment_words as words
from vario.remedies.treatment import Treatment

# Two groups, a scheduler, every kind of layer and a loader: what a slot could want.
SCRIPT = """
    import torch, random, numpy as np
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(1); random.seed(1); np.random.seed(1)
    x = torch.randn(96, 6)
    y = (x[:, 0] > 0.7).long()
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    held_out = DataLoader(TensorDataset(x[:32], y[:32]), batch_size=32)
    body = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.SiLU())
    model = nn.Sequential(body, nn.Linear(8, 2))
    start = {k: v.detach().clone() for k, v in model.named_parameters()}
    groups = [{"params": body.parameters()}, {"params": model[1].parameters(), "lr": 0.001}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.99), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 6, 0.5)
    criterion = nn.CrossEntropyLoss()
    first, rates, sizes = None, [], []
    taken = []
    optimizer.register_step_pre_hook(lambda o, a, k: taken.append([g["lr"] for g in o.param_groups]))
    for epoch in range(3):
        for data, target in loader:
            first = (data.clone(), target) if first is None else first
            sizes.append(len(data))
            def closure():
                optimizer.zero_grad()
                loss = criterion(model(data), target)
                loss.backward()
                return loss
            CALL
            schedule.step()
        with torch.no_grad():
            for data, target in held_out:
                held = nn.functional.cross_entropy(model(data), target).item()
    rates = taken
    result = {
        "start": start, "first": first, "rates": rates, "sizes": sizes, "length": len(loader), "held": held,
        "end": dict(model.named_parameters()), "optimizer": type(optimizer).__name__,
        "is_optimizer": isinstance(optimizer, torch.optim.Optimizer),
        "defaults": {k: v for k, v in optimizer.param_groups[0].items() if k != "params"},
        "layers": [type(m).__name__ for m in body], "state": optimizer.state_dict(),
        "chance": [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()],
        "now": [g["lr"] for g in optimizer.param_groups],
    }
"""
PLAIN = SCRIPT.replace("CALL", "closure(); optimizer.step()")
CLOSED = SCRIPT.replace("CALL", "optimizer.step(closure)")
METHODS = [entry.id for entry in catalog.entries() if entry.kind == "method" and not words.refusal(entry.id)]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Treated:
    return treated(PLAIN, None, tmp_path_factory.mktemp("bare"))


def run(tmp_path: Path, text: str, script: str = PLAIN) -> Treated:
    made = treated(script, text, tmp_path)
    assert not made.error, made.error
    return made


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return bool(torch.equal(one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_put_in(method: str, tmp_path: Path, bare: Treated) -> None:
    text = words.filled_in(method, steps=18, epochs=3)
    if "compile" in words.options_of(method):
        text += ("," if ":" in text else ":") + "compile=false"
    text += ":size=4" if method == "ghost-batch-norm" else ""
    made = run(tmp_path, text, CLOSED if method == "sam" else PLAIN)
    assert made.code == 0, made.events
    kinds = made.kinds()
    assert ("treatment", words.slot_of(method)) in kinds and {kind for kind, _ in kinds} == {"treatment"}
    assert made.result["is_optimizer"]
    assert not same(made.result["end"], bare.result["end"]), "it was put in and changed nothing"
    if words.slot_of(method) not in ("sampler", "layer", "rule-of-change"):
        assert same(made.result["start"], bare.result["start"])
        assert same(made.result["first"], bare.result["first"])
    if words.slot_of(method) in ("optimizer", "optimizer-around", "schedule") and method != "sam":
        # not one draw more or less; SAM evaluates the loss twice
        assert same(made.result["chance"], bare.result["chance"])


@pytest.mark.parametrize("treatment", [Treatment("baseline"), Treatment("baseline", seed=0)])
def test_the_identity_changes_no_bit(treatment: Treatment, tmp_path: Path, bare: Treated) -> None:
    made = treated(PLAIN, treatment, tmp_path)
    assert not made.error and made.kinds() == []
    assert same(made.result, bare.result)


@pytest.mark.parametrize(
    "text",
    [
        "AdamW", "optimizer.lr=0.01", "optimizer.weight_decay=0.02", "gradient-noise:eta=0.0",
        "layer.GELU=GELU", "loss.label_smoothing=0.0", "loader.batch_size=16", "loader.shuffle=true",
    ],
)  # fmt: skip
def test_a_swap_for_the_same_changes_no_bit(text: str, tmp_path: Path, bare: Treated) -> None:
    made = run(tmp_path, text)
    assert made.kinds() and made.kinds()[0][0] == "treatment"
    assert same(made.result["end"], bare.result["end"]) and same(made.result["chance"], bare.result["chance"])
    assert same(made.result["state"]["state"], bare.result["state"]["state"])
    for ours, theirs in zip(*(r.result["state"]["param_groups"] for r in (made, bare)), strict=True):
        assert same({key: ours[key] for key in theirs}, theirs)  # what goes around it has settings of its own


def test_rates_are_scaled_alike_whatever_moves_them(tmp_path: Path, bare: Treated) -> None:
    made = run(tmp_path, "optimizer.lr=0.03")
    assert bare.result["rates"][0] == [0.01, 0.001] and bare.result["rates"][6] == [0.005, 0.0005]
    for got, was in zip(made.result["rates"], bare.result["rates"], strict=True):
        assert got == pytest.approx([3 * rate for rate in was])
    assert made.result["now"] == bare.result["now"], "the script goes on seeing its own"
    script = PLAIN.replace("schedule.step()", "optimizer.param_groups[0]['lr'] = 0.004")
    made = run(tmp_path, "optimizer.lr=0.03", script)  # the script sets its rate by hand
    assert [rates[0] for rates in made.result["rates"][:3]] == pytest.approx([0.03, 0.012, 0.012])


def test_a_replacement_keeps_groups_and_the_words_that_agree(tmp_path: Path) -> None:
    made = run(tmp_path, "Adam:eps=1e-4")
    assert made.result["optimizer"] == "Adam"
    held = made.result["defaults"]
    assert (held["betas"], held["weight_decay"], held["eps"]) == ((0.8, 0.99), 0.02, 1e-4)
    assert made.result["rates"][0] == [0.01, 0.001] and made.result["rates"][6] == [0.005, 0.0005]
    made = run(tmp_path, "SGD:lr=0.1,momentum=0.9")
    assert made.data("optimizer")["not_carried"]["betas"] == (0.8, 0.99)
    assert (
        made.result["rates"][0] == pytest.approx([0.1, 0.01]) and made.result["defaults"]["momentum"] == 0.9
    )


def test_what_the_script_never_chose_is_left_to_the_replacement(tmp_path: Path) -> None:
    plain = "AdamW(groups, lr=0.01, betas=(0.8, 0.99), weight_decay=0.02)"
    made = run(tmp_path, "AdamW", PLAIN.replace(plain, "Adam(groups, lr=0.01)"))
    assert made.data("optimizer")["carried"] == {} and made.data("optimizer")["lr"] == 0.01
    assert made.result["defaults"]["weight_decay"] == 0.01, "AdamW decays, a plain Adam does not"
    made = run(tmp_path, "AdamW", PLAIN.replace(plain, "Adam(groups, lr=0.01, weight_decay=0.3)"))
    assert made.result["defaults"]["weight_decay"] == 0.3
    made = run(tmp_path, "Adam", PLAIN)
    assert made.result["defaults"]["decoupled_weight_decay"] is False, "Adam in place of AdamW is no AdamW"
    made = run(tmp_path, "diff-grad", PLAIN.replace(plain, "AdamW(groups, lr=0.01)"))
    assert made.data("optimizer")["carried"] == {"weight_decay": 0.01}, (
        "a decay at work goes on, usual or not"
    )
    own = PLAIN.replace('"lr": 0.001', '"weight_decay": 0.0')  # in one group only
    made = run(tmp_path, "SGD", own.replace(plain, "AdamW(groups, lr=0.01)"))
    assert [group["weight_decay"] for group in made.result["state"]["param_groups"]] == [0.01, 0.0]
    made = run(tmp_path, "lars", PLAIN.replace(plain, "SGD(groups, lr=0.01)"))
    assert made.data("optimizer")["carried"] == {} and made.result["defaults"]["momentum"] == 0.9


def test_what_wraps_an_optimizer_is_left_alone(tmp_path: Path) -> None:
    wrapper = """
    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer, self.mine = optimizer, True
        param_groups = property(lambda self: self.optimizer.param_groups)
        def step(self, closure=None):
            self.optimizer.step(closure)
        def zero_grad(self):
            self.optimizer.zero_grad()
    inner, optimizer = optimizer, Wrapper(optimizer)
    schedule ="""
    script = PLAIN.replace("\n    schedule =", wrapper, 1).replace("optimizer.register", "inner.register")
    script = script.replace("StepLR(optimizer", "StepLR(inner").replace(
        "optimizer.state_dict", "inner.state_dict"
    )
    for text in ("SGD", "lars"):
        made = run(tmp_path, text, script)
        assert made.result["optimizer"] == "Wrapper"
        assert [data["from"] for _, slot, data in made.events if slot == "optimizer"] == ["AdamW"]


def test_wrappers_stack_on_a_replacement(tmp_path: Path) -> None:
    made = run(tmp_path, "lars+gradient-noise:eta=0.01+perp-grad")
    assert made.result["optimizer"] == "PerpGrad"
    assert [data["to"] for _, slot, data in made.events if "from" in data] == [
        "LARS",
        "GradientNoise",
        "PerpGrad",
    ]


def test_settings_of_the_step(tmp_path: Path, bare: Treated) -> None:
    made = run(tmp_path, "optimizer.betas=(0.5,0.9)+optimizer.eps=0.1+optimizer.weight_decay=0.5")
    assert [d["setting"] for _, s, d in made.events if s == "optimizer"] == ["betas", "eps", "weight_decay"]
    assert not same(made.result["end"], bare.result["end"])
    assert made.result["defaults"] == bare.result["defaults"]
    script = PLAIN.replace("schedule.step()", "result_eps = [g['eps'] for g in optimizer.param_groups]")
    script = script.replace('[g["lr"] for g', '[g["eps"] for g')
    assert run(tmp_path, "optimizer.eps=0.1", script).result["rates"][3] == [0.1, 0.1]


def test_groups_without_decay_stay_without(tmp_path: Path) -> None:
    script = PLAIN.replace('"lr": 0.001', '"weight_decay": 0.0').replace(
        '[g["lr"] for g', '[g["weight_decay"] for g'
    )
    assert run(tmp_path, "optimizer.weight_decay=0.1", script).result["rates"][0] == pytest.approx([0.1, 0.0])


def test_loaders(tmp_path: Path, bare: Treated) -> None:
    made = run(tmp_path, "loader.batch_size=40")
    assert made.result["sizes"] == [40, 40, 16] * 3 and made.result["length"] == 3
    assert run(tmp_path, "loader.batch_size=40+loader.drop_last=true").result["sizes"] == [40, 40] * 3
    made = run(tmp_path, "loader.shuffle=false")
    assert made.result["length"] == 6 and same(made.result["start"], bare.result["start"])
    assert same(made.result["chance"], bare.result["chance"])
    script = PLAIN.replace("shuffle=True", "shuffle=False")
    unshuffled = treated(script, None, tmp_path)
    assert same(made.result["first"], unshuffled.result["first"])
    made = run(tmp_path, "loader.shuffle=true+loader.batch_size=48", script)
    assert made.result["sizes"] == [48] * 6
    assert not same(made.result["first"][0][:16], unshuffled.result["first"][0])
    assert same(made.result["chance"], unshuffled.result["chance"])


def test_layers(tmp_path: Path, bare: Treated) -> None:
    made = run(tmp_path, "layer.GELU=ReLU+layer.Dropout.p=0")
    assert made.result["layers"] == ["Linear", "ReLU", "BatchNorm1d", "Dropout", "SiLU"]
    assert same(made.result["start"], bare.result["start"])
    made = treated(PLAIN, "layer.Linear=Conv1d", tmp_path)
    assert made.code == 97 and "needs in_channels" in made.data("layer")["reason"]
    made = treated(PLAIN, "layer.GELU.p=0.3", tmp_path)
    assert made.code == 97 and "no number 'p'" in made.data("layer")["reason"]
    own = PLAIN.replace("nn.GELU()", "Mine()").replace(
        "torch.manual_seed(1)", "Mine = type('Mine', (nn.Tanh,), {}); torch.manual_seed(1)"
    )
    assert run(tmp_path, "layer.Mine=ReLU", own).result["layers"][1] == "ReLU"


def test_losses_change_in_training_only(tmp_path: Path) -> None:
    script = PLAIN.replace("optimizer.step()", "pass")
    made, plain = run(tmp_path, "loss.label_smoothing=0.3", script), treated(script, None, tmp_path)
    assert made.data("loss")["after"] == 0.3
    assert made.result["held"] == plain.result["held"]


@pytest.mark.parametrize(
    ("has", "said"), [("weight=torch.ones(2)", "weight"), ("label_smoothing=0.1", "label_smoothing")]
)
def test_a_loss_that_has_no_twin_of_the_scripts_says_so(has: str, said: str, tmp_path: Path) -> None:
    script = PLAIN.replace("nn.CrossEntropyLoss()", f"nn.CrossEntropyLoss({has})")
    made = treated(script, "stable-max", tmp_path)
    assert made.code == 97 and f"has {said}, which stable-max has not" in made.data("loss")["reason"]


def test_clipping_holds_and_takes_the_place_of_the_scripts_own(tmp_path: Path) -> None:
    script = PLAIN.replace(
        'taken.append([g["lr"] for g in o.param_groups])',
        "taken.append(torch.stack([p.grad.norm() for p in model.parameters()]).norm().item())",
    )
    assert min(treated(script, None, tmp_path).result["rates"][:3]) > 0.05
    assert max(run(tmp_path, "gradient.clip_norm=0.01", script).result["rates"]) < 0.01001
    own = script.replace(
        "optimizer.step()", "nn.utils.clip_grad_norm_(model.parameters(), 1e-4); optimizer.step()"
    )
    made = run(tmp_path, "gradient.clip_norm=0.01", own)
    assert made.data("gradient")["script_clips"] is True
    assert made.result["rates"][0] == pytest.approx(0.01, rel=1e-3)
    closed = script.replace("closure(); optimizer.step()", "optimizer.step(closure)").replace(
        "_pre_", "_post_"
    )
    assert max(run(tmp_path, "gradient.clip_norm=0.01", closed).result["rates"]) < 0.01001


def test_schedules(tmp_path: Path, bare: Treated) -> None:
    made = run(tmp_path, "schedule.warmup_steps=4")
    assert [rate[0] for rate in made.result["rates"][:5]] == pytest.approx(
        [0.0025, 0.005, 0.0075, 0.01, 0.01]
    )
    made = run(tmp_path, "gradual-warmup:factor=10,warmup_steps=2")
    assert [rate[0] for rate in made.result["rates"][:3]] == pytest.approx([0.001, 0.0055, 0.01])
    made = run(tmp_path, "refined-decay:total_steps=18")
    assert [rate[0] for rate in made.result["rates"]] == pytest.approx(
        [0.01 * (17 - k) / 17 for k in range(18)]
    )


def test_what_cannot_be_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    for text, said in [
        ("sam", "without a closure"),
        ("optimizer.momentum=0.9", "AdamW has no momentum; it has lr, betas"),
        ("imbalance", "neither a pair (input, label) nor a mapping"),
    ]:
        script = (
            PLAIN.replace("TensorDataset(x, y)", "[{'x': x, 'of': y} for x, y in zip(x, y)]")
            if text == "imbalance"
            else PLAIN
        )
        made = treated(script, text, tmp_path)
        assert (made.code, made.result) == (97, None)
        assert said in made.events[-1][2]["reason"] and made.events[-1][0] == "treatment_failed"


def test_what_was_never_reached_is_told_at_the_end(tmp_path: Path) -> None:
    script = "import torch\nresult = 1\n"
    for text, slot in [
        ("AdamW", "optimizer"),
        ("gradient-noise", "optimizer-around"),
        ("optimizer.lr=1", "optimizer"),
        ("loader.batch_size=4", "loader"),
        ("imbalance", "sampler"),
        ("layer.GELU=SiLU", "layer"),
        ("loss.label_smoothing=0.1", "loss"),
        ("gradient.clip_norm=1", "gradient"),
        ("schedule.warmup_steps=3", "schedule"),
    ]:
        made = treated(script, text, tmp_path)
        assert made.result == 1 and made.kinds() == [("treatment_unused", slot)], text
    made = treated(script, "scale-batch:factor=2", tmp_path)
    assert sorted(made.kinds()) == [("treatment_unused", "loader"), ("treatment_unused", "rule-of-change")]


def test_factories_of_the_user(tmp_path: Path, bare: Treated) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def better(optimizer, rate=1.0):\n"
        "    return torch.optim.SGD(optimizer.param_groups, lr=rate)\n"
        "def wrapped(optimizer):\n"
        "    from vario.methods.optimizers import PerpGrad\n"
        "    return PerpGrad(optimizer)\n"
        "def act(layer):\n"
        "    return torch.nn.Tanh()\n"
        "def drawn(layer):\n"
        "    return torch.nn.Linear(8, 8)\n"
        "def other(sampler):\n"
        "    return torch.utils.data.SequentialSampler(sampler.data_source)\n"
        "def small(loader, size=3):\n"
        "    return torch.utils.data.DataLoader(loader.dataset, batch_size=size)\n"
        "def none(optimizer):\n"
        "    return None\n"
    )
    place = tmp_path / "mine.py"
    assert run(tmp_path, f"{place}:better:rate=0.5").result["optimizer"] == "SGD"
    assert run(tmp_path, f"{place}:wrapped").result["optimizer"] == "PerpGrad"
    assert run(tmp_path, f"{place}:act:of=GELU").result["layers"][1] == "Tanh"
    made = run(tmp_path, f"{place}:drawn:of=GELU")  # weights that were drawn in between move no others
    assert same(made.result["start"]["1.weight"], bare.result["start"]["1.weight"])
    assert same(made.result["first"], bare.result["first"])
    assert same(run(tmp_path, f"{place}:other").result["chance"], bare.result["chance"])
    assert run(tmp_path, f"{place}:small").result["sizes"] == [3] * 96
    made = treated(PLAIN, f"{place}:none", tmp_path)
    assert made.code == 97 and "not a torch.optim.Optimizer" in made.events[-1][2]["reason"]


def test_seeds_move_by_the_offset(tmp_path: Path, bare: Treated) -> None:
    script = """
        import torch, random, numpy as np
        torch.manual_seed(3); random.seed(3); np.random.seed(seed=3)
        own, rng = torch.Generator().manual_seed(3), np.random.default_rng(3)
        result = [torch.rand(2).tolist(), random.random(), np.random.rand(),
                  torch.rand(2, generator=own).tolist(), rng.random(), np.random.default_rng().random(),
                  isinstance(torch.default_generator, torch.Generator)]
    """
    plain = treated(script, None, tmp_path).result
    zero = treated(script, Treatment("baseline", seed=0), tmp_path).result
    two, again = (treated(script, Treatment("baseline", seed=2), tmp_path) for _ in range(2))
    by_hand = treated(script.replace("3)", "5)"), Treatment("baseline", seed=0), tmp_path).result
    assert zero[:5] == plain[:5] and two.result == again.result
    assert two.result[:5] == by_hand[:5] and two.result[5] != zero[5] and two.result[6] is True
    assert len([data for _, slot, data in two.events if slot == "seed"]) == 5


def test_a_script_that_never_seeds_is_the_same_run_in_both_arms(tmp_path: Path) -> None:
    script = "import torch, random, numpy as np\n"
    script += "result = [torch.rand(1).item(), random.random(), np.random.rand()]"
    runs = {seed: [treated(script, Treatment("b", seed=seed), tmp_path) for _ in range(2)] for seed in (0, 1)}
    assert runs[0][0].result == runs[0][1].result and runs[1][0].result == runs[1][1].result
    assert all(a != b for a, b in zip(runs[0][0].result, runs[1][0].result, strict=True))
    assert "started" in runs[1][0].data("seed")["what"]


def test_signatures_stay_readable_and_copies_work(tmp_path: Path) -> None:
    script = """
        import copy, inspect, pickle, torch
        from torch import nn
        names = list(inspect.signature(torch.optim.AdamW).parameters)
        w = nn.Parameter(torch.ones(2))
        optimizer = torch.optim.AdamW([w])
        twin = copy.deepcopy(optimizer)
        result = [names, type(twin).__name__, type(pickle.loads(pickle.dumps(optimizer))).__name__]
    """
    names = treated(script, None, tmp_path).result[0]
    made = run(tmp_path, "lars+optimizer.momentum=0.5+layer.GELU=SiLU", script)
    assert made.result == [names, "LARS", "LARS"]
