"""Test ``vario.capture.room``: what would leave the script too little memory is left out, and told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vario.capture import room
from vario.capture.room import Memory
from vario.record import Run
from vario.record.reader import open_run
from vario.report import facts
from vario.watching import watch

MODEL = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
SIZE = sum(p.nbytes for p in MODEL.parameters())
COPIED, EXAMPLES = "update/norm", "example_gradients/mean_norm"


def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: Memory | None) -> Run:
    monkeypatch.setattr(room, "memory", lambda device: memory)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters())
    with watch(model, optimizer, home=tmp_path, overhead=1.0) as run:
        for _ in range(20):
            x, y = torch.randn(16, 64), torch.randint(0, 10, (16,))
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert run.path is not None
    found = open_run(run.path)
    assert not list(found.events("switched_off"))
    assert found.main.step_count == 20 and len(found.main.series("gradient/norm")[0]) == 20
    return found


@pytest.mark.parametrize(
    ("spare", "left_out"),
    [
        (None, ""),
        (9.0, ""),
        (3.1, "examples"),
        (0.9, "examples copies"),
    ],
)
def test_what_there_is_no_room_for_is_left_out_the_dearest_first(
    spare: float | None, left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script holds its parameters four times, and once more in the middle of a step. At most steps two
    copies are wanted, and activations; before the first one, two of the optimizer's state are to come.
    """
    memory = None if spare is None else Memory(4 * SIZE, 5 * SIZE, int((5 + spare) * SIZE / room.SHARE) + 1)
    found = recorded(tmp_path, monkeypatch, memory)
    names = found.main.names()
    for word, series in (("copies", COPIED), ("copies", "activation/mean"), ("examples", EXAMPLES)):
        assert (series not in names) == (word in left_out), (series, names)
    told = list(found.events("no_room"))
    assert bool(told) == bool(left_out)
    assert (len(list(facts.unseen(found))) == 1) == bool(left_out)


def test_the_first_step_leaves_room_for_the_state_of_the_optimizer() -> None:
    optimizer = torch.optim.Adam(MODEL.parameters())
    stream = type("Stream", (), {"optimizers": [lambda: optimizer]})()
    memory, copies = Memory(2 * SIZE, 3 * SIZE, 0), frozenset({"weights_before"})
    before = room._needed(stream, copies, SIZE, memory)
    assert before == (3 + 2 + 1) * SIZE
    F.cross_entropy(MODEL(torch.randn(2, 64)), torch.tensor([0, 1])).backward()
    optimizer.step()
    assert room._needed(stream, copies, SIZE, memory) == (3 + 1) * SIZE


def test_memory_of_the_processor() -> None:
    before = room.memory(torch.device("cpu"))
    if before is None:
        pytest.skip("the system does not say")
    held = torch.ones(1 << 26)  # 256 MB
    after = room.memory(torch.device("cpu"))
    assert after is not None and before.now < after.now <= after.peak <= after.most
    assert after.now - before.now == pytest.approx(held.nbytes, rel=0.2)


def test_the_limit_of_a_container(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("2900\n")
    (tmp_path / "memory.stat").write_text(
        "anon 1000\nfile 1900\nshmem 100\nactive_file 300\ninactive_file 1500\n"
    )
    assert room._of_the_container(tmp_path) == 3000 - 2900 + 1800
    (tmp_path / "memory.max").write_text("max\n")
    assert room._of_the_container(tmp_path) == room._of_the_container(tmp_path / "none") == 1 << 62
