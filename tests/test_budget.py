"""Test ``vario.budget``: what is due when, and that it costs no more than it may."""

from __future__ import annotations

import random

import pytest

from vario.budget import EVERY_LOSS, FIRST, GRANTS, LEAST, LOSSES, Budget


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
def test_the_budget_is_kept_in_the_long_run(share: float) -> None:
    budget, spent, time = Budget(share), 0.0, 0.0
    for step in range(20_000):
        probe = step < FIRST or budget.affords_probe()
        own = 8e-3 if probe else 10e-6
        budget.stepped(2e-3 + own, own, "probe" if probe else "cheap")
        if step > 2000:
            spent, time = spent + own, time + 2e-3
    assert 0.5 * share < spent / time < share + 0.01


def test_a_slower_step_after_a_probe_counts_as_its_cost() -> None:
    def probes(slower: float) -> int:
        budget, count, after = Budget(0.03), 0, False
        for step in range(5000):
            probe = step < FIRST or budget.affords_probe()
            own = 2e-3 if probe else 1e-5
            budget.stepped(2e-3 + own + (slower if after else 0.0), own, "probe" if probe else "cheap")
            count, after = count + probe, probe
        return count

    assert probes(4e-3) < 0.6 * probes(0.0)


def test_cheap_instruments_are_thinned_where_a_step_is_short() -> None:
    def period(step_seconds: float) -> int:
        budget = Budget(0.03)
        for _ in range(200):
            budget.stepped(step_seconds + 60e-6, 60e-6, "cheap")
        return budget.periods["cheap"]

    assert period(20e-3) == 1
    assert period(1e-3) == 8  # 0.25 of 3 % of a millisecond is 7.5 us
    assert period(1e-5) == 64


COST = {"none": 4e-6, "cheap": 150e-6, "call": 400e-6, "noise": 1.5e-3, "probe": 3e-3}


def due(budget: Budget, step: int) -> str:
    return budget.kind(step, probe=budget.affords_probe())


@pytest.mark.parametrize("slower", [0.0, 0.25])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
def test_four_kinds_of_step_share_the_budget(share: float, slower: float) -> None:
    """`slower`: by this part of our own time the script takes longer, on that step and after a dear one."""
    budget, before, spent = Budget(share), "none", dict.fromkeys(COST, 0.0)
    for step in range(40_000):
        if step == 4000:  # the grants are over
            own, bare = budget.own, budget.bare
        kind = due(budget, step)
        hidden = slower * (COST[kind] * (kind != "none") + COST[before] * (before in ("probe", "noise")))
        budget.stepped(2e-3 + COST[kind] + hidden, COST[kind], kind)
        before = kind
        if step >= 4000:
            spent[kind] += (COST[kind] + hidden) / (36_000 * 2e-3)
    assert sum(spent.values()) < share + 0.003
    assert all(spent[kind] > 0.08 * share for kind in ("cheap", "call", "noise", "probe")), spent
    assert (budget.own - own) / (budget.bare - bare) == pytest.approx(sum(spent.values()), rel=0.1)


def test_neither_dear_kind_keeps_the_other_waiting() -> None:
    """Steps are long: both could be afforded at every one of them."""
    budget, kinds = Budget(0.03), []
    for step in range(200):
        kinds.append(due(budget, step))
        budget.stepped(2.0 + COST[kinds[-1]], COST[kinds[-1]], kinds[-1])
    assert kinds.count("probe") > 80 and kinds.count("noise") > 80


def test_three_hundred_quick_steps_have_the_readings_that_rules_ask_for() -> None:
    budget, noise = Budget(0.03), []
    for step in range(300):
        kind = due(budget, step)
        budget.stepped(2e-3 + COST[kind], COST[kind], kind)
        noise += [step] * (kind == "noise")
    assert len(noise) >= 30
    assert len([step for step in noise if step < 100]) > len([step for step in noise if step >= 200])


@pytest.mark.parametrize(("kind", "times"), [("probe", 2), ("noise", 4)])
def test_a_poor_run_is_measured_in_full_as_often_as_it_doubles_and_by_examples_as_it_quadruples(
    kind: str, times: int
) -> None:
    budget, dear = Budget(1e-6), []
    for step in range(20_000):
        now = due(budget, step)
        own = 0.1 if now in ("probe", "noise") else 0.0
        budget.stepped(1e-3 + own, own, now)
        dear += [step] * (now == kind)
    late = [step for step in dear if step > 100]  # the grants are over
    assert len(late) >= 3
    assert all(0.95 * times < b / a < 1.05 * times for a, b in zip(late, late[1:], strict=False)), late


@pytest.mark.parametrize(("noise", "probe"), [(1.4, 0.015), (0.15, 0.2)])
def test_what_takes_many_steps_waits_until_it_is_a_tenth_of_the_run(noise: float, probe: float) -> None:
    """As single examples of an LSTM, taken one by one: 24 times a step."""
    costs = {"none": 0.0, "cheap": 0.0, "call": 0.0, "noise": noise, "probe": probe}
    budget, bare, own = Budget(0.03), 0.0, 0.0
    for step in range(2000):
        kind = due(budget, step)
        bare, own = bare + 0.06, own + costs[kind] * (step >= FIRST)
        assert own <= noise + 0.5 + 0.2 * bare, step  # the first one, whose cost is not known, and the grants
        budget.stepped(0.06 + costs[kind], costs[kind], kind)
    assert own < noise + 0.5 + 0.04 * bare


@pytest.mark.parametrize("seed", range(5))
def test_steps_that_need_not_be_heard_are_those_without_a_probe(seed: int) -> None:
    """What is promised ahead is what step after step would have been decided."""
    chance, budget, promised, kept = random.Random(seed), Budget(0.02), 0, 0
    for step in range(6000):
        kind = due(budget, step)
        if promised:
            assert kind not in ("probe", "noise"), step
            promised, kept = promised - 1, kept + 1
        own = 1e-6 if kind in ("cheap", "call") else COST[kind]
        budget.stepped(2e-3 * chance.uniform(0.999, 1.001) + own, own, kind)
        if not promised:
            promised = min(budget.nothing_for(), 20)
    assert kept > 3000


def test_steps_that_passed_unheard_cost_and_earn_as_others_do() -> None:
    def account(together: bool) -> Budget:
        budget = Budget(0.03)
        for step in range(40):
            budget.stepped(3e-3, 1e-3, "probe" if step < FIRST else "none")
        if together:
            budget.passed(50, 50 * 2.1e-3, 50 * 0.1e-3)
        else:
            for _ in range(50):
                budget.stepped(2.1e-3, 0.1e-3, "none")
        return budget

    one, other = account(True), account(False)
    assert one.own == pytest.approx(other.own) and one.bare == pytest.approx(other.bare)
    assert one._steps == other._steps and one.probes.since == other.probes.since


def test_the_time_of_a_step_is_estimated_anew_where_all_pass_unheard() -> None:
    budget = Budget(0.03)
    for step in range(40):
        budget.stepped(3e-3, 1e-3, "probe" if step < FIRST else "none")
    assert budget.plain == pytest.approx(2e-3)
    for _ in range(40):
        budget.passed(16, 16 * 10.1e-3, 16 * 0.1e-3)  # the script has become five times slower
    assert budget.plain == pytest.approx(1e-2)


def test_runs_that_are_compared_have_no_grant() -> None:
    """A trial is many runs: what a single short one may take to be diagnosed at all would be paid by each."""
    compared, watched = Budget(0.03, every_step=True), Budget(0.03)
    assert (compared.probes.grant, compared.noise.grant) == (0.0, 0.0)
    assert watched.probes.grant > 0 and watched.noise.grant > 0


def test_sixty_models_of_one_process_have_grants_of_a_few_together() -> None:
    """A search or folds: each would else be measured as if it were the only one."""
    grants = [Budget(0.03, place=place).noise.grant for place in range(1, 61)]
    assert grants[0] == Budget(0.03).noise.grant and grants[1] == grants[0] / 2
    assert sum(grants) < 5 * grants[0]


def test_one_very_long_step_does_not_make_an_instrument_free() -> None:
    """A flush of the record falls on one of the idle steps: the others must not look dearer for it."""
    budget = Budget(0.03, every_step=True)
    for step in range(2000):
        kind = due(budget, step)
        own = {"none": 0.15e-3, "cheap": 0.25e-3}.get(kind, COST.get(kind, 0.0))
        own += 40e-3 * (kind == "none" and step % 30 == 0)
        budget.stepped(3e-3 + own, own, kind)
    assert budget.periods["cheap"] > 32


def plain_of(seconds: float, share: float = 0.03, **which: bool) -> Budget:
    """After two hundred steps that took so long each."""
    budget = Budget(share, **which)
    for _ in range(200):
        budget.stepped(seconds, 1e-6, "none")
    return budget


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("seconds", [2e-5, 3e-4, 2e-3, 0.2])
@pytest.mark.parametrize("cost", [None, 5e-6, 4e-5])
def test_losses_that_are_kept_take_a_quarter_of_the_budget_at_most(
    seconds: float, share: float, cost: float | None
) -> None:
    budget = plain_of(seconds, share)
    left = max(share * budget.plain - 1e-6, LEAST * share * budget.plain)  # hooks alone take a microsecond
    period, paid, one = budget.loss_period(1_000, cost), LOSSES * left, cost or EVERY_LOSS
    assert one / period <= paid * 1.001
    assert period == 1 or one / (period - 1) > paid


def test_of_quick_steps_at_the_default_budget_every_loss_is_kept() -> None:
    assert plain_of(1.2e-3).loss_period(1_000, 8e-6) == 1


def test_what_is_kept_is_none_of_the_hooks_that_leave_so_much_for_it() -> None:
    """Else each would be told that there is less left the more of it is kept."""
    budget, period = Budget(0.03), 0
    for step in range(4_000):
        own = 5e-6 + (2e-5 / period if period else 0.0)
        budget.passed(1, 1e-3 + own, own)
        period = budget.kept_period("norm", step, 2e-5, 0.2)
    assert 2e-5 / period == pytest.approx(0.2 * (3e-5 - 5e-6), rel=0.2)


def test_of_ten_million_steps_fewer_and_fewer_losses_are_kept() -> None:
    budget, kept, step = plain_of(2e-3), 0.0, 0
    assert budget.loss_period(100_000, 8e-6) == 1
    while step < 10_000_000:
        kept, step = kept + 1_000 / budget.loss_period(step, 8e-6), step + 1_000
    assert 400_000 < kept < 700_000


@pytest.mark.parametrize("budget", [Budget(0.03), plain_of(2e-3, 0.0), plain_of(2e-3, every_step=True)])
def test_none_is_kept_where_nothing_is_known_of_a_step_or_all_is_read(budget: Budget) -> None:
    assert budget.loss_period(100, None) == 0


def test_what_the_first_steps_took_and_what_was_granted_is_told_apart() -> None:
    budget = Budget(0.03)
    for _ in range(FIRST):
        budget.stepped(0.05, 0.04, "probe")
    assert budget.begun == budget.own == pytest.approx(FIRST * 0.04)
    for _ in range(400):
        probe = budget.affords_probe()
        budget.stepped(0.011 if probe else 0.001, 0.01 if probe else 0.0, "probe" if probe else "none")
    granted = budget.begun - FIRST * 0.04
    assert 0.01 <= granted <= GRANTS["probe"]
    assert (budget.own - budget.begun) / budget.bare < 0.1
