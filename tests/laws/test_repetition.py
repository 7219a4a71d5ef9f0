"""Test ``vario.laws.repetition`` on the published runs and on planted ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.laws.tables import table
from vario.laws._newton import huber
from vario.laws._refusal import one_sided
from vario.laws.broken_power import BROKEN_POWER
from vario.laws.fit import fit, predict
from vario.laws.repetition import PUBLISHED_CONSTANTS, REPETITION, RepetitionOnBase, effective_tokens


def test_the_published_point_and_the_optimum_below_it() -> None:
    data = table("repetition.csv")
    x = {"N": data["params"], "D": data["tokens"], "U": data["unique_tokens"]}
    law = RepetitionOnBase()
    off = np.log(predict(law, np.log([PUBLISHED_CONSTANTS]), x)[0] / data["loss"])
    assert huber(off, 1e-3).sum() == pytest.approx(0.015825935, abs=1e-9)
    done = fit(law, x, data["loss"])
    assert done.objective == pytest.approx(0.0158047, abs=1e-7)
    low, high = (np.exp(end) for end in one_sided(done, "log_rd"))
    assert low < 15.4 and np.isinf(high)  # the constant is a lower bound, not a number


def test_fresh_tokens_are_worth_themselves_and_repeats_less() -> None:
    assert effective_tokens(1e9, 1e9, 15.0) == 1e9
    assert float(effective_tokens(2e9, 1e9, 15.0)) == pytest.approx(1e9 * (1 + 15 * (1 - np.exp(-1 / 15))))
    assert float(effective_tokens(1e15, 1e9, 15.0)) == pytest.approx(16e9)


def test_planted_constants_in_other_units() -> None:
    rng = np.random.default_rng(0)
    u = 10 ** rng.uniform(7, 9, 150)
    x = {"N": 10 ** rng.uniform(7, 9, 150), "D": u * 10 ** rng.uniform(0, 2, 150), "U": u}
    truth = np.array([[0.6, 6.2, 0.35, 7.3, 0.36, np.log(12.0), np.log(6.0)]])
    loss = predict(REPETITION, truth, x)[0] * np.exp(0.002 * rng.standard_normal(150))
    done = fit(REPETITION, {"N": x["N"] / 1e6, "D": x["D"] / 1e9, "U": x["U"] / 1e9}, loss, delta="auto")
    assert np.exp(done.theta[5]) == pytest.approx(12.0, rel=0.15)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_character_model_that_sees_its_text_again() -> None:
    """P080: equal steps; only dropout helps; a repetition count that was left out is foretold within 10 %."""
    torch, model = pytest.importorskip("torch"), pytest.importorskip("tests.laws.char_model")
    data = model.text()

    def after(unique: int, dropout: float = 0.0) -> float:
        torch.manual_seed(7)
        net, draw = model.Transformer(48, dropout=dropout), torch.Generator().manual_seed(7)
        optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
        for _ in range(1500):
            starts = torch.randint(unique, (model.BATCH,), generator=draw)
            model.step(net, optimizer, model.windows(data, starts))
        return float(model.held_out(net, data))

    passes = np.array([0.13, 1.0, 2.0, 4.0, 6.0, 9.6, 15.0, 24.0, 38.4])
    unique = np.round(1500 * model.BATCH / passes)
    loss = np.array([after(int(one)) for one in unique])
    dropped = after(int(unique[7]), dropout=0.3)
    print(dict(zip(passes.tolist(), loss.round(3).tolist(), strict=True)), "dropout", round(dropped, 3))
    assert np.all(np.diff(loss) > 0)
    assert 2 * loss[0] < dropped < 0.92 * loss[7]
    for left_out in (4, 5, 6):
        seen = np.arange(len(loss)) != left_out
        done = fit(BROKEN_POWER, {"x": unique[seen]}, loss[seen], delta=np.inf)
        said = predict(BROKEN_POWER, done.theta[None], {"x": unique[~seen]})[0, 0]
        print(f"{passes[left_out]} passes left out: {said:.3f}, {100 * (said / loss[left_out] - 1):+.1f} %")
        assert said == pytest.approx(loss[left_out], rel=0.1)
