from __future__ import annotations

import pytest

from tests.instruments.sample import read
from vario.instruments.logits_doubled import LogitsDoubled


@pytest.mark.parametrize("doubled", [True, False])
def test_it_says_what_the_graph_showed(doubled: bool) -> None:
    assert read(LogitsDoubled(), double_softmax=doubled) == {("logits/doubled", ""): float(doubled)}


def test_it_is_silent_where_the_graph_was_not_walked() -> None:
    assert read(LogitsDoubled()) == {}
