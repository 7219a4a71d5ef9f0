from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.instruments.sample import draw, read
from vario.capture.per_example.probe import ExampleGradients, Probe
from vario.instruments.gradient_noise import GradientNoise


def found_in(gradients: dict[str, Tensor]) -> ExampleGradients:
    """What a probe finds where example i has the i-th row as its gradient, and the batch their mean."""
    count = len(next(iter(gradients.values())))
    squares = {name: (rows / count).square().sum(dim=1) for name, rows in gradients.items()}
    batch = {name: rows.mean(dim=0).square().sum() for name, rows in gradients.items()}
    return ExampleGradients(count, squares, batch)


def test_signal_and_noise_equal_the_sample_variance() -> None:
    rows = draw(6, 3).double()
    found = read(GradientNoise(), example_gradients=found_in({"w": rows}))
    noise = float(rows.var(dim=0, correction=1).sum())
    assert found["gradient_noise/noise", "w"] == pytest.approx(noise)
    assert found["gradient_noise/signal", "w"] == pytest.approx(
        float(rows.mean(dim=0).square().sum()) - noise / 6
    )


@pytest.mark.parametrize("count", [2, 16])
def test_both_parts_are_unbiased_around_a_known_mean(count: int) -> None:
    mean, spread, draws = torch.tensor([1.0, -0.5]), 2.0, 4000
    seen = []
    for k in range(draws):
        rows = (mean + spread * draw(count, 2, seed=k)).double()
        found = read(GradientNoise(), example_gradients=found_in({"a": rows[:, :1], "b": rows[:, 1:]}))
        seen.append([found["gradient_noise/signal", ""], found["gradient_noise/noise", ""]])
    values = np.array(seen)
    error = values.std(axis=0) / draws**0.5
    assert (np.abs(values.mean(axis=0) - [1.25, 8.0]) < 4 * error).all()


def test_a_real_backward_gives_the_variance_of_real_gradients() -> None:
    model, x = nn.Linear(3, 1, bias=False), draw(8, 3)
    probe = Probe((loss := model(x).mean()), {id(model.weight): "weight"}, examples=8)
    loss.backward()
    found = read(GradientNoise(), example_gradients=probe.close())
    assert found["gradient_noise/noise", ""] == pytest.approx(float(x.var(dim=0).sum()), rel=1e-4)
    assert found["gradient_noise/seen_share", ""] == pytest.approx(1.0)


def test_the_norm_test_is_read_from_the_two() -> None:
    """P030: the variance of the batch's gradient against eta^2 times its squared length."""
    rows = draw(32, 4).double() + 0.7
    found = read(GradientNoise(), example_gradients=found_in({"w": rows}))
    signal, noise = found["gradient_noise/signal", ""], found["gradient_noise/noise", ""]
    assert noise / 32 == pytest.approx(float(rows.var(dim=0).sum()) / 32)
    assert signal + noise / 32 == pytest.approx(float(rows.mean(dim=0).square().sum()))


def test_what_was_not_seen_is_in_the_share_and_not_in_the_parts() -> None:
    gradients = found_in({"a": draw(4, 2) + 1, "b": draw(4, 2, seed=1) * 0.1})
    whole = float(gradients.batch_squares["a"] + gradients.batch_squares["b"])
    del gradients.squares["b"]
    found = read(GradientNoise(), example_gradients=gradients)
    assert found["gradient_noise/signal", ""] == found["gradient_noise/signal", "a"]
    assert ("gradient_noise/signal", "b") not in found
    assert found["gradient_noise/seen_share", ""] == pytest.approx(
        float(gradients.batch_squares["a"]) / whole
    )
    most = found_in({"a": draw(4, 2) + 1, "b": draw(4, 2, seed=1) * 0.1})
    del most.squares["a"]
    found = read(GradientNoise(), example_gradients=most)
    assert ("gradient_noise/signal", "") not in found and ("gradient_noise/signal", "b") in found


def test_some_examples_stand_for_all_without_bias() -> None:
    rows = draw(64, 5, seed=3).double() + 0.5
    whole = read(GradientNoise(), example_gradients=found_in({"w": rows}))
    seen = []
    for k in range(0, 64, 8):
        part = found_in({"w": rows})
        part.squares["w"] = part.squares["w"][k : k + 8]
        seen.append(read(GradientNoise(), example_gradients=part)["gradient_noise/noise", ""])
    assert np.mean(seen) == pytest.approx(whole["gradient_noise/noise", ""])


def test_a_scaled_loss_and_gradients_that_are_not_finite() -> None:
    plain, scaled = found_in({"w": draw(6, 3)}), found_in({"w": draw(6, 3) * 1024})
    scaled.scale = 1024.0
    a, b = (read(GradientNoise(), example_gradients=found) for found in (plain, scaled))
    assert a["gradient_noise/noise", ""] == pytest.approx(b["gradient_noise/noise", ""])
    broken = found_in({"w": torch.tensor([[1.0], [float("nan")]])})
    assert read(GradientNoise(), example_gradients=broken) == {}


def test_it_is_silent_for_a_single_example_and_where_nothing_is_understood() -> None:
    assert read(GradientNoise(), example_gradients=found_in({"w": draw(1, 3)})) == {}
    assert read(GradientNoise(), example_gradients=ExampleGradients(4)) == read(GradientNoise()) == {}


def test_examples_of_unequal_length_are_noisier_by_the_spread_of_their_lengths() -> None:
    """A mean over all tokens: B times the variance of the batch's gradient is what noise stands for."""
    rng, batch, draws = np.random.default_rng(0), 32, 20_000
    lengths = rng.integers(4, 65, (draws, batch))
    sums = lengths[..., None] * (1.0 + 0.5 * rng.standard_normal((draws, batch, 4)))
    shares = sums / lengths.sum(axis=1)[:, None, None]
    found = ExampleGradients(
        batch,
        {"w": torch.from_numpy(np.square(shares).sum(axis=2).mean(axis=0))},
        {"w": torch.tensor(np.square(shares.sum(axis=1)).sum(axis=1).mean())},
    )
    read_as = read(GradientNoise(), example_gradients=found)
    truth = batch * shares.sum(axis=1).var(axis=0).sum()
    over = 4.0 * (lengths.std() / lengths.mean()) ** 2  # the signal is 4
    assert read_as["gradient_noise/noise", ""] - truth == pytest.approx(over, rel=0.15)
    assert over > 0.9
