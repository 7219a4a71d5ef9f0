from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch

from vario.capture.sketches import SIDE, rows_to_show, sketch, small_rows


def sketches(inputs: list[Any], rows: list[int]) -> list[dict[str, Any]]:
    return [sketch(row) for row in small_rows(inputs, rows)]


def pixels(found: dict[str, Any]) -> np.ndarray:
    """What a PNG holds, read by its standard."""
    file = base64.b64decode(found["picture"].removeprefix("data:image/png;base64,"))
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(file):
        (length,) = struct.unpack(">I", file[at : at + 4])
        kind, data = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack(">I", file[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + length
    width, height, depth, color = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    channels = {0: 1, 2: 3}[color]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert depth == 8 and not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, channels)


def ramp(height: int = 6, width: int = 5) -> torch.Tensor:
    return torch.linspace(-1, 1, height * width).reshape(1, 1, height, width)


@pytest.mark.parametrize("shape", ["channel first", "channel last", "no channel", "bytes"])
def test_a_picture_is_the_one_that_is_known(shape: str) -> None:
    rows = torch.cat([ramp(), -ramp()])
    if shape == "channel last":
        rows = rows.permute(0, 2, 3, 1)
    elif shape == "no channel":
        rows = rows[:, 0]
    elif shape == "bytes":
        rows = ((rows + 1) * 100).to(torch.uint8)
    (found,) = sketches([rows], [1])
    seen = pixels(found)[:, :, 0].astype(float)
    assert seen.shape == (6, 5)
    expected = (1 - (ramp()[0, 0].numpy() + 1) / 2) * 255
    # 1 % at either end is out of the scale
    assert np.abs(seen - ((expected - 127.5) / 0.98 + 127.5).clip(0, 255)).max() < 3


def test_colours_keep_their_places_and_their_order() -> None:
    rows = torch.zeros(1, 3, 4, 4)
    for channel in range(3):
        rows[0, channel, channel] = 1.0
    seen = pixels(sketches([rows], [0])[0])
    for line in range(3):
        assert (seen[line] == [255 * (line == channel) for channel in range(3)]).all()


def test_a_large_picture_is_made_small_and_a_wild_pixel_greys_nothing() -> None:
    rows = torch.zeros(1, 1, 200, 100)
    rows[..., 50:] = 1.0
    rows[0, 0, 3, 3] = 1e6
    seen = pixels(sketches([rows], [0])[0])[:, :, 0]
    assert max(seen.shape) <= SIDE and seen.shape[0] == 2 * seen.shape[1]
    assert seen[-1, -1] == 255 and seen[-1, 0] == 0


def test_odd_values_make_a_picture_all_the_same() -> None:
    for value in (0.5, float("nan"), float("inf")):
        assert pixels(sketches([torch.full((1, 1, 4, 4), value)], [0])[0]).shape == (4, 4, 1)


def test_other_inputs_are_their_first_numbers_or_their_words() -> None:
    assert sketches([torch.arange(40).reshape(2, 20)], [1]) == [
        {"numbers": [float(i) for i in range(20, 36)], "more": True}
    ]
    assert sketches([torch.tensor([[0.123456, 2.0]])], [0]) == [{"numbers": [0.1235, 2.0], "more": False}]
    batch = [["a cat", "b" * 1000], torch.tensor([0, 1]), torch.zeros(2, 3)]
    shown = rows_to_show(batch, [batch[2]], 2)
    assert sketches(shown, [0, 1]) == [{"text": "a cat"}, {"text": "b" * 400}]
    assert sketches([torch.zeros(2, 3, dtype=torch.complex64)], [0]) == [{}]


def test_only_what_has_one_entry_an_example_is_shown() -> None:
    batch = {"text": ["a", "b", "c"], "ids": torch.zeros(3, 4), "mask": torch.zeros(1)}
    assert [type(one).__name__ for one in rows_to_show(batch, [batch["ids"], batch["mask"]], 3)] == [
        "list",
        "Tensor",
    ]
    assert rows_to_show(torch.zeros(3), [], 3) == []
