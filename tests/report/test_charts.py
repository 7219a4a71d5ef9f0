"""Which charts show a finding: those of its evidence, at its places, with the limit in the right unit."""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding
from vario.record import record_of
from vario.report.charts import course, finding_charts, rest, series_of
from vario.report.curves import Curves
from vario.report.layers import MOST_LAYERS, layer_maps, shown_layers

STEPS = np.arange(5)
ONES = (STEPS, np.ones(5))


def evidence(name: str, limit: float = 0.5, where: str = "") -> Evidence:
    return Evidence(name, 1.0, 1.0, 1.0, limit, where)


def finding(*seen: Evidence, where: tuple[str, ...] = ()) -> Finding:
    return Finding("any", "error", 1.0, where, (1, 3), seen)


def test_evidence_is_drawn_in_the_unit_of_its_series_only() -> None:
    names = ("loss/train", "update/ratio", "hyper/lr", "gradient/norm", "rank/effective")
    assert series_of(evidence("largest update ratio"), names) == "update/ratio"
    assert series_of(evidence("loss at the end"), names) == "loss/train"
    assert series_of(evidence("gradient norm at the start"), names) == "gradient/norm"
    assert series_of(evidence("rank/effective"), names) == "rank/effective"
    assert series_of(evidence("share of steps above an update ratio"), names) == ""
    assert series_of(evidence("swing of the loss"), names) == ""


def test_the_charts_of_a_finding_carry_limits_span_and_places() -> None:
    record = record_of(
        {
            "loss/train": ONES,
            ("update/ratio", "fc1.weight"): ONES,
            ("update/ratio", "fc2.weight"): ONES,
            "update/ratio": ONES,
        }
    )
    card = {"reads": ("loss/train", "update/ratio")}
    first, second = finding_charts(finding(evidence("update ratio"), where=("fc2",)), record, card)
    assert first.title == "Update over weight, per step" and first.limits == ((0.5, "limit 50 %"),)
    assert [line.where for line in first.lines] == ["fc2.weight"] and first.span == (1, 3)
    assert second.title == "Training loss" and second.limits == ()
    assert [line.where for line in finding_charts(finding(), record, card)[1].lines] == [""]
    assert finding_charts(finding(), record_of({}), card) == []


def test_the_course_joins_streams_and_loaders() -> None:
    series = {"loss/train": ONES, ("eval/loss", "loader 1"): ONES, ("hyper/lr", "group 0"): ONES}
    records = [record_of(series, stream=name) for name in ("netD", "netG")]
    loss = next(iter(course(records)))
    assert [line.label for line in loss.lines] == [
        "netD: training",
        "netG: training",
        "netD: evaluation, loader 1",
        "netG: evaluation, loader 1",
    ]


def test_a_chart_of_more_curves_than_colours_says_so() -> None:
    series = {("eval/loss", f"loader {i}"): ([0, 1], [2.0, 1.0]) for i in range(4)}
    records = [record_of(series, stream=f"net#{i}") for i in range(3)]
    losses = next(course(records))
    assert (losses.title, len(losses.lines)) == ("Loss (8 of 12 curves)", 8)
    assert next(course(records[:2])).title == "Loss"


def test_a_new_instrument_is_shown_without_being_named_here() -> None:
    record = record_of({"curvature/largest": ONES, "loss/train": ONES, ("curvature/largest", "fc"): ONES})
    assert [(chart.title, len(chart.lines)) for chart in rest([record])] == [("curvature/largest", 1)]


def test_of_too_many_layers_those_of_findings_stay() -> None:
    places = [f"layer {i}" for i in range(1000)]
    shown = shown_layers(places, ["layer 777", "layer 3"])
    assert len(shown) == MOST_LAYERS and {"layer 777", "layer 3", "layer 0", "layer 999"} <= set(shown)
    assert shown == sorted(shown, key=places.index)
    assert shown_layers(places[:200], []) == places[:200]


def test_maps_follow_the_model_and_leave_out_what_is_zero_everywhere() -> None:
    from vario.record import Event

    rows = [{"name": name} for name in ("b", "a")]
    series = {("gradient/norm", "a"): ONES, ("gradient/norm", "b"): ONES}
    series[("gradient/zero_share", "a")] = (STEPS, np.zeros(5))
    record = record_of(series, events=[Event("parameters", 0, data={"parameters": rows})])
    (stream,) = layer_maps([record], Curves(), [])
    (shown,) = stream["maps"]
    assert shown["name"] == "gradient/norm" and [row[0] for row in shown["rows"]] == ["b", "a"]
    assert stream["empty"] == ["gradient exactly 0"]
