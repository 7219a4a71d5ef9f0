"""The JSON contract of ``vario findings --json``: exact keys, strict JSON, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

from tests.report.sample import cures_of, empty_run, sick_diagnosis, sick_run
from vario.nouns import Diagnosis, Evidence, Finding, Prescription
from vario.report.json import findings_json


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def test_the_keys_are_exactly_those_of_the_contract(tmp_path: Path) -> None:
    run, diagnosis = sick_run(tmp_path / "run-7"), sick_diagnosis()
    told = json.loads(findings_json(run, diagnosis, cures_of(diagnosis)), parse_constant=refuse)
    assert list(told) == ["run", "findings", "checked", "not_applicable"]
    assert told["run"] == "run-7"
    assert [item["id"] for item in told["findings"]] == [item.id for item in diagnosis.findings]
    assert told["checked"] == list(diagnosis.checked)
    assert {row["id"]: row["reason"] for row in told["not_applicable"]} == diagnosis.not_applicable
    first = told["findings"][0]
    assert list(first) == [
        "id",
        "severity",
        "confidence",
        "where",
        "steps",
        "evidence",
        "summary",
        "prescriptions",
    ]
    assert list(first["evidence"][0]) == ["name", "value", "low", "high", "limit", "where"]
    assert all(list(cure) == ["method", "change", "paper", "trial"] for cure in first["prescriptions"])
    assert first["prescriptions"][0]["trial"].startswith("vario trial digits.py")
    assert first["evidence"][0]["value"] == diagnosis.findings[0].evidence[0].value


def test_numbers_that_json_lacks_become_null_and_words_keep_them(tmp_path: Path) -> None:
    seen = Evidence("loss", float("nan"), 1.0, float("inf"), float("-inf"), 'a\u202e"<script>')
    item = Finding("outside", "warning", 1.0, ("<b>",), (0, 3), (seen,))
    cure = Prescription('say "hello"', paper="P001")
    text = findings_json(empty_run(tmp_path / "run"), Diagnosis((item,), ("outside",)), {item: (cure,)})
    told = json.loads(text, parse_constant=refuse)["findings"][0]
    row = told["evidence"][0]
    assert (row["value"], row["low"], row["high"], row["limit"]) == (None, 1.0, None, None)
    assert row["where"] == 'a\u202e"<script>' and told["where"] == ["<b>"]
    assert "not a number" in told["summary"]
    assert told["prescriptions"] == [{"method": "", "change": 'say "hello"', "paper": "P001", "trial": ""}]
