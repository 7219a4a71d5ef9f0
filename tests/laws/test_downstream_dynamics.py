"""Test ``vario.laws.downstream_dynamics``."""

from __future__ import annotations

import copy
import re
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from vario.laws.downstream_dynamics import alike, order_kept, reached


def test_rank_correlations_are_scipys_ties_too() -> None:
    rng = np.random.default_rng(0)
    small = {"a": np.round(rng.normal(size=12), 1), "b": rng.normal(size=12)}
    large = {"a": rng.normal(size=12), "b": np.round(rng.normal(size=12), 1)}
    same, other = alike(small, large)
    for name in same:
        assert same[name] == pytest.approx(spearmanr(small[name], large[name])[0])
    crossed = [spearmanr(small["a"], large["b"])[0], spearmanr(small["b"], large["a"])[0]]
    assert other == pytest.approx(np.mean(crossed))


def test_the_order_of_skills_and_what_is_too_near_to_call() -> None:
    small = {"a": np.array([0.1, 0.2, 0.5]), "b": np.array([0.2, 0.3, 0.4])}
    large = {"a": np.array([0.1, 0.4, 0.8]), "b": np.array([0.3, 0.35, 0.6])}
    assert order_kept(small, large) == pytest.approx(2 / 3)
    assert order_kept(small, large, apart=0.1) == 1.0
    with pytest.raises(ValueError, match="a has 2 checkpoints in one model, not 3"):
        order_kept({"a": np.array([0.1, 0.2])}, large)
    with pytest.raises(ValueError, match="no skill in common"):
        alike({"c": small["a"]}, large)


def test_when_a_skill_has_come_half_its_way() -> None:
    tokens = np.array([1e3, 1e4, 1e5, 1e6])
    assert reached(tokens, np.array([0.0, 0.1, 0.9, 1.0])) == pytest.approx(10**4.5)
    assert reached(tokens, np.array([0.0, 0.6, 0.5, 1.0]), share=0.6) == pytest.approx(1e4)
    assert reached(tokens, np.full(4, 0.3)) == 1e3


def places(window: bytes) -> dict[str, list[tuple[int, int]]]:
    """What of a window's second half each skill is about: from which character to which (not included).

    Brackets: a closing one whose opening one is in sight. Copying: a word of five letters or more that is in
    sight, from its third letter on. Indentation: the spaces of a line, and what ends them, where they are as
    many as on the line before; not at the margin, where a model that never writes a space is always right.
    """
    found: dict[str, list[tuple[int, int]]] = {"brackets": [], "indentation": [], "copying": []}
    half, waiting = len(window) // 2, []
    for i, letter in enumerate(window):
        if letter in b"([{":
            waiting.append(b")]}"[b"([{".index(letter)])
        elif letter in b")]}":
            known = bool(waiting) and waiting.pop() == letter
            if known and i >= half:
                found["brackets"].append((i, i + 1))
            elif not known:
                waiting = []
    seen = set()
    for word in re.finditer(rb"(?<=[^A-Za-z_])[A-Za-z_]{5,}(?=[^A-Za-z_])", window):
        if word.group() in seen:
            found["copying"] += [(i, i + 1) for i in range(word.start() + 2, word.end()) if i >= half]
        seen.add(word.group())
    lines = list(re.finditer(rb"\n( *)(?=[^ \n])", window))
    for before, line in zip(lines, lines[1:], strict=False):
        if line.start() >= half and line.group(1) and line.group(1) == before.group(1):
            found["indentation"].append((line.start() + 1, line.end() + 1))
    return found


def test_where_each_skill_is_asked_for() -> None:
    early = b"-(a) word_a word_a\n  a\n  b" + b"-" * 30
    text = early + b" (word_a\n  x[1\n  word_a])\n    y(1]\nnone)\nnone"
    found = places(text)
    assert [text[a:b] for a, b in found["brackets"]] == [b"]", b")"]
    assert [text[a:b] for a, b in found["copying"]] == 2 * [b"r", b"d", b"_", b"a"]
    assert [text[a:b] for a, b in found["indentation"]] == [b"  x", b"  w"]
    assert places(b"(]) " + b"-" * 3)["brackets"] == []


def skill_curves(width: int, seed: int, steps: int = 2000, context: int = 64) -> dict[str, np.ndarray]:
    """Mean probability of what is right, of the average of the last weights, at 15 checkpoints."""
    torch, model = pytest.importorskip("torch"), pytest.importorskip("tests.laws.char_model")
    data = model.text()
    window = torch.arange(context + 1)
    rows = data[torch.arange(len(data) - 40_000, len(data) - context, context // 2)[:, None] + window]
    asked: dict[str, list[tuple[int, int, int]]] = {}
    for r, row in enumerate(rows.tolist()):
        for name, spans in places(bytes(row)).items():
            asked.setdefault(name, []).extend((r, *span) for span in spans)
    torch.manual_seed(seed)
    net, draw = model.Transformer(width, context=context), torch.Generator().manual_seed(1000 + seed)
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.98))
    curves: dict[str, list[float]] = {name: [] for name in asked}
    checkpoints = set(np.geomspace(30, steps, 15).round().astype(int).tolist())
    for k in range(1, steps + 1):
        # a rate of one over the width: the sizes then learn at like paces
        optimizer.param_groups[0]["lr"] = 0.128 / width * min(1.0, k / 100)
        starts = torch.randint(len(data) - 100_000 - context - 1, (16,), generator=draw)
        model.step(net, optimizer, data[starts[:, None] + window])
        with torch.no_grad():  # an average over the last tenth or so of the steps
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), min(1.0, 10 / (k + 9)))
        if k in checkpoints:
            for name, right in _rightness(average, rows, asked).items():
                curves[name].append(right)
    return {name: np.array(curve) for name, curve in curves.items()}


def _rightness(net: Any, rows: Any, asked: dict[str, list[tuple[int, int, int]]]) -> dict[str, float]:
    """Mean over places of the probability of all their characters; of indentation, that it ends there."""
    import torch

    with torch.no_grad():
        told = torch.cat([net(part[:, :-1]).log_softmax(-1) for part in rows.split(200)])
    own, space = (
        torch.nn.functional.pad(part.double().cumsum(1), (1, 0))
        for part in (told.gather(-1, rows[:, 1:, None])[..., 0], told[..., 32])
    )
    rightness = {}
    for name, spans in asked.items():
        row, start, end = torch.tensor(spans).T - torch.tensor([[0], [1], [1]])  # targets are one on
        right = (own[row, end] - own[row, start]).exp()
        if name == "indentation":
            spaces = (space[row, end - 1] - space[row, start]).exp()
            right = spaces * (1 - told[row, end - 1, 32].double().exp())
        rightness[name] = float(right.mean())
    return rightness


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_skills_of_character_models_of_three_widths() -> None:
    """P122: each skill alike above .9 between sizes; the part of the row that fails is in the law's text.

    Two skills are as alike as one where all curves rise, so the changes between checkpoints must tell them
    apart. The order is asked to beat a coin only: of two fresh seeds, four forecasts, one was below 80 %.
    """
    curves = {width: skill_curves(width, seed=10) for width in (32, 64, 128)}
    changes = {
        width: {name: np.diff(curve) for name, curve in skills.items()} for width, skills in curves.items()
    }
    for small, large in combinations(curves, 2):
        (same, other), (moved, crossed) = (alike(kind[small], kind[large]) for kind in (curves, changes))
        print(small, large, {name: round(one, 3) for name, one in same.items()}, f"two skills {other:.3f}")
        print("  changes", {name: round(one, 3) for name, one in moved.items()}, f"two skills {crossed:.3f}")
        assert min(same.values()) > 0.9
        assert np.mean(list(moved.values())) > crossed
    kept = {width: order_kept(curves[width], curves[128]) for width in (32, 64)}
    print("order kept", kept)
    assert min(kept.values()) > 0.5
