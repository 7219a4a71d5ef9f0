"""Test ``vario.remedies.treatment``: what may be written, what is refused, and that JSON keeps it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vario.nouns import VarioError
from vario.remedies import catalog
from vario.remedies import treatment_words as words
from vario.remedies.treatment import MethodUse, Treatment

METHODS = [entry.id for entry in catalog.entries() if entry.kind == "method"]


@pytest.mark.parametrize(
    ("text", "settings", "methods"),
    [
        ("optimizer.lr=0.1", (("optimizer.lr", "0.1"),), ()),
        ("set:optimizer.betas=(0.9,0.95)", (("optimizer.betas", "(0.9,0.95)"),), ()),
        (
            "optimizer.lr=1e+0+sam:rho=0.1",
            (("optimizer.lr", "1e+0"),),
            (MethodUse("sam", (("rho", "0.1"),)),),
        ),
        (
            "stable-spam:gamma=(0.7,0.9),theta=0.99",
            (),
            (MethodUse("stable-spam", (("gamma", "(0.7,0.9)"), ("theta", "0.99"))),),
        ),
        ("adamw:lr=3", (), (MethodUse("AdamW", (("lr", "3"),)),)),
        ("stable_spam", (), (MethodUse("stable-spam"),)),
        ("layer.GELU=SiLU+layer.Dropout.p=0.3", (("layer.GELU", "SiLU"), ("layer.Dropout.p", "0.3")), ()),
        ("loss.weight=(0.5,1e+2)+input.mean=-3", (("loss.weight", "(0.5,1e+2)"), ("input.mean", "-3")), ()),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, settings: object, methods: object) -> None:
    made = Treatment.parse(text)
    assert (made.name, made.settings, made.methods, made.seed) == (text, settings, methods, None)
    assert Treatment.from_json(made.with_seed(3).to_json()) == made.with_seed(3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stabel-spam", "stable-spam"),
        ("stable-spam:thta=1", "Near it: theta"),
        ("stable-spam:theta", "not key=value"),
        ("stable-spam:theta=high", "'high' is not a number"),
        ("AdamW:lr=fast", "'fast' is not a number"),
        ("infobatch:epochs=few", "'few' is not a number"),
        ("AdamW:beta=1", "Near it: betas"),
        ("optimizr.lr=1", "Near it: optimizer"),
        ("optimizer.wight_decay=1", "Near it: weight_decay"),
        ("optimizer.lr=fast", "not a number"),
        ("loader.batch_size=3.5", "not a whole number"),
        ("loader.batch_size=0", "not a whole number above 0"),
        ("schedule.stop_after=true", "not a whole number above 0"),
        ("schedule.slower=0.5", "not a whole number above 0"),
        ("optimizer.lr=1e999", "not a number of 0 or more"),
        ("optimizer.lr=nan", "not a number of 0 or more"),
        ("target.std=0", "not a number above 0"),
        ("input.mean=true", "not a number"),
        ("loss.wrong_labels=1", "not a share below 1"),
        ("loss.weight=2", "for each class, such as (0.5,2)"),
        ("loss.weight=(1,-2)", "for each class, such as (0.5,2)"),
        ("start.usual=false", "not true; leave it out"),
        ("loader.shuffle=1", "not true or false"),
        ("layer.Dropout.p=none", "layer.CLASS.attribute=number"),
        ("schedule.stop_after=9+schedule.warmup_steps=3", "both set the course of the rate"),
        ("refined-decay:total_steps=9+schedule.stop_after=3", "both set the course of the rate"),
        ("input.standardized=true+input.std=2", "takes its own mean and spread"),
        ("layer.GELU=SiLUU", "Near it: SiLU"),
        ("layer.Dropout.p=much", "layer.CLASS.attribute=number"),
        ("gradual-warmup", "needs factor, such as"),
        ("mup", "unmodified script: it compares the model"),
        ("bloop", "auxiliary loss"),
        ("lars+AdamW", "both replace the optimizer"),
        ("optimizer.lr=1+optimizer.lr=2", "set twice"),
        ("nowhere.py:f", "cannot be read"),
        ("a b", "write METHOD"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(text: str, said: str) -> None:
    with pytest.raises(VarioError, match=re.escape(said)):
        Treatment.parse(text)


def test_set_takes_settings_only() -> None:
    assert Treatment.parse_set("lr=0.1").settings == (("optimizer.lr", "0.1"),)
    assert Treatment.parse("imbalance:mode=under").methods[0].options == (("mode", "under"),)
    assert Treatment.parse_set("optimizer.lr=0.1+loader.batch_size=8").slots() == ("optimizer", "loader")
    with pytest.raises(VarioError, match="slot.key=value"):
        Treatment.parse_set("sam")
    with pytest.raises(VarioError, match="--set ls=0.1: write slot.key=value"):
        Treatment.parse_set("ls=0.1")


def test_a_factory_says_by_its_first_argument_what_it_replaces(tmp_path: Path) -> None:
    place = tmp_path / "mine.py"
    place.write_text(
        "def slow(optimizer, factor=2): ...\ndef act(layer): ...\ndef other(thing): ...\n", encoding="utf-8"
    )
    made = Treatment.parse(f"{place}:slow:factor=3")
    assert made.methods == (MethodUse("slow", (("factor", "3"),), f"{place}:slow"),)
    assert made.slots() == ("optimizer",)
    assert Treatment.from_json(made.to_json()) == made
    for text, said in [
        ("slow:speed=1", "no argument 'speed'"),
        ("fast", "no function 'fast'. Near it: slow"),
        ("act", "act:of=GELU"),
        ("other", "it is 'thing'"),
    ]:
        with pytest.raises(VarioError, match=re.escape(said)):
            Treatment.parse(f"{place}:{text}")
    assert Treatment.parse(f"{place}:act:of=GELU").slots() == ("layer",)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_put_in_or_is_refused_with_a_reason(method: str) -> None:
    """`test_slots_catalogue` then puts in each that is not refused."""
    reason = words.refusal(method)
    if reason:
        assert len(reason) > 30 and "of the kind" not in reason and words.method_name(method) == method
        with pytest.raises(VarioError, match="unmodified script"):
            Treatment.parse(method)
        return
    text = words.filled_in(method, steps=1000, epochs=10)
    made = Treatment.parse(text)
    assert made.methods[0].method == method and made.slots() == (words.slot_of(method),)


def test_a_prescription_knows_the_length_of_its_run() -> None:
    assert words.filled_in("refined-decay", steps=700, epochs=3) == "refined-decay:total_steps=700"
    assert words.filled_in("infobatch", steps=700, epochs=3) == "infobatch:epochs=3"
    assert words.filled_in("gradual-warmup", steps=1000, epochs=100) == (
        "gradual-warmup:factor=10,warmup_steps=50"  # five epochs
    )
    assert "warmup_steps=100" in words.filled_in("gradual-warmup", steps=1000, epochs=2)  # a tenth


def test_what_a_method_counts_may_be_left_to_the_trial() -> None:
    made = Treatment.parse("refined-decay+infobatch:ratio=0.3")
    assert made.uncounted == ("total_steps", "epochs")
    filled = made.of_length(steps=700, epochs=3)
    assert filled.uncounted == () and filled.name == made.name
    assert [dict(use.options) for use in filled.methods] == [
        {"total_steps": "700"}, {"ratio": "0.3", "epochs": "3"}
    ]  # fmt: skip
    given = Treatment.parse("infobatch:epochs=9")
    assert given.of_length(steps=700, epochs=3) == given


def test_every_setting_that_prescriptions_name_is_one_that_can_be_put_in() -> None:
    folder = Path(words.__file__).parent
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("changes*.py"))
    named = set(re.findall(rf'["+]((?:{"|".join(words.SETTINGS)})\.\w+)=', text))
    assert {"optimizer.lr", "loader.shuffle", "mode.training", "input.mean", "input.std"} <= named
    for name in named:
        slot, _, key = name.partition(".")
        assert key in words.SETTINGS[slot], name


def test_the_words_of_torch_are_known_without_importing_it() -> None:
    code = (
        "import sys; from vario.remedies.treatment import Treatment, words; "
        "Treatment.parse('AdamW:betas=(0.9,0.95)+layer.GELU=SiLU'); "
        "print('torch' in sys.modules, *words.torch_optimizers())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, *names = done.stdout.split()
    assert imported == "False"
    import torch

    classes = [n for n, k in vars(torch.optim).items() if isinstance(k, type) and n != "Optimizer"]
    assert sorted(names) == sorted(classes)
    for name in names:
        import inspect

        real = set(inspect.signature(getattr(torch.optim, name)).parameters) - {"params"}
        assert set(words.options_of(name)) == real
