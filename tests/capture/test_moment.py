from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vario import instruments
from vario.capture import moment as under_test
from vario.capture.derived import DERIVED
from vario.capture.moment import Moment, before_step, raw_needs
from vario.capture.needs import Derived, Offer, Pending


def test_an_instrument_is_given_only_what_it_declared() -> None:
    moment = Moment("model", 3, {"losses": [1.0], "groups": []}).declared({"losses"})
    assert moment["losses"] == [1.0]
    for need in ("groups", "gradient_norms"):
        with pytest.raises(KeyError, match=f"'{need}' was read but not declared"):
            need in moment  # noqa: B015


def test_what_a_step_does_not_offer_is_absent_and_says_so() -> None:
    moment = Moment("model", 3, {})
    assert "losses" not in moment and "gradient_norms" not in moment
    with pytest.raises(KeyError, match="step 3 of model offers no 'losses'"):
        moment["losses"]


def test_raw_needs_are_those_behind_derived_ones() -> None:
    assert raw_needs({"gradient_cosines", "losses"}) == {"grads", "grads_previous", "names", "losses"}
    assert raw_needs({"changes"}) == {"params", "names", "weights_before"}
    assert before_step({"changes", "gradient_norms", "losses", "gradient_cosines"}) == {
        "gradient_norms",
        "gradient_cosines",
    }


def test_every_need_of_every_instrument_leads_to_what_capture_offers() -> None:
    offered = {
        *(
            "params",
            "names",
            "grads",
            "carried",
            "groups",
            "group_of",
            "weights_before",
            "losses",
            "terms",
            "loss_calls",
            "attacks",
        ),
        *("activations", "inputs", "clip", "modes", "times", "rows", "grads_previous", "double_softmax"),
        *("example_gradients", "gradient_parts", "shards", "shard_grads"),
    }
    for instrument in instruments.ALL:
        assert raw_needs(instrument.needs) <= offered, instrument.name


def test_derived_quantities_are_computed_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def start(offer: Offer) -> Pending:
        calls.append(offer["grads"])
        return Pending([offer["grads"].sum()], lambda host: float(host[0][0]))

    monkeypatch.setitem(DERIVED, "total", Derived(frozenset({"grads"}), start))
    moment = Moment("model", 0, {"grads": torch.ones(5)})
    assert moment.declared({"total"})["total"] == moment.declared({"total"})["total"] == 5.0
    assert len(calls) == 1


def test_a_derived_quantity_reads_only_what_it_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DERIVED, "total", Derived(frozenset({"names"}), lambda offer: offer["grads"]))
    with pytest.raises(KeyError, match="not declared"):
        Moment("model", 0, {"grads": 1})["total"]


def test_gradients_prepared_before_the_step_are_those_of_before_it() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    weight.grad = torch.tensor([6.0, 8.0])
    moment = Moment("model", 0, {"params": [weight], "names": ["w"], "grads": [weight.grad]})
    needs = frozenset({"gradient_norms", "gradient_statistics", "gradient_histograms", "changes"})
    moment.prepare(before_step(needs))
    before = weight.detach().clone()
    with torch.no_grad():
        weight.grad.zero_()
        weight.mul_(2)
    moment.offer("weights_before", [before])
    assert moment["gradient_norms"][""] == (10.0, 0.0)
    assert moment["gradient_statistics"][""].largest == 8.0
    assert sum(moment["gradient_histograms"][""]) == 2
    assert moment["changes"]["w"] == (5.0, 5.0)


def test_all_that_waits_comes_to_the_host_in_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers = []
    original = under_test._to_host

    def counting(parts: list[Tensor]) -> list[np.ndarray]:
        transfers.append(len(parts))
        return original(parts)

    monkeypatch.setattr(under_test, "_to_host", counting)
    grads = [torch.ones(3), torch.ones(2, dtype=torch.float64)]
    moment = Moment("model", 0, {"names": ["a", "b"], "grads": grads, "grads_previous": grads})
    moment.prepare({"gradient_norms", "gradient_statistics", "gradient_cosines", "gradient_histograms"})
    assert transfers == [], "nothing waits for the device while the gradients are at hand"
    assert moment["gradient_norms"] and moment["gradient_statistics"] and moment["gradient_cosines"]
    assert len(transfers) == 1


def test_a_transfer_keeps_order_shapes_and_whole_numbers() -> None:
    parts = [
        torch.tensor(2**40 + 1),
        torch.tensor([0.1, 0.2], dtype=torch.float64),
        torch.tensor([True, False]),
        torch.zeros(0),
        torch.tensor([[1.5], [2.5]], requires_grad=True),
        torch.tensor(7),
    ]
    host = under_test._to_host(parts)
    assert [array.tolist() for array in host] == [[2**40 + 1], [0.1, 0.2], [1, 0], [], [1.5, 2.5], [7]]


@pytest.mark.parametrize("broken_at", ["start", "finish"])
def test_a_need_that_breaks_fails_its_readers_and_nobody_else(
    broken_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(_host: list[np.ndarray]) -> float:
        raise ZeroDivisionError("at the end")

    def start(_offer: Offer) -> Pending:
        if broken_at == "start":
            raise ZeroDivisionError("at the start")
        return Pending([torch.ones(1)], finish)

    monkeypatch.setitem(DERIVED, "broken", Derived(frozenset(), start))
    monkeypatch.setitem(DERIVED, "above", Derived(frozenset({"broken"}), lambda offer: offer["broken"]))
    moment = Moment("model", 0, {"names": ["a"], "grads": [torch.ones(4)]})
    moment.prepare(["broken", "above", "gradient_norms"])
    assert moment["gradient_norms"]["a"] == (2.0, 0.0)
    for need in ("broken", "above"):
        with pytest.raises(ZeroDivisionError, match=f"at the {broken_at.replace('finish', 'end')}"):
            need in moment  # noqa: B015
