"""What a page shows layer by layer: heat maps of layers over steps, and distributions of their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vario.nouns import Finding
from vario.record import Record
from vario.report.curves import Curves, distribution, layer_buckets

__all__ = ["MOST_LAYERS", "layer_maps", "layer_order", "shown_layers"]

MOST_LAYERS = 200  # beyond it, the others are in the table with their last values only
HISTOGRAM_VALUES = 25_000_000  # how much of the record may be read for distributions (200 MB)
NOTHING = 0.005  # a share below half a percent everywhere needs no picture
DEAD = "activation/dead_channels"

# Series, title, scale: "log" for magnitudes, "share" from 0 to 1, "signed" from -1 to 1.
QUANTITIES = (
    ("gradient/norm", "Gradient norm", "log"),
    ("update/ratio", "Update over weight", "log"),
    ("gradient/zero_share", "Gradient exactly 0", "share"),
    (DEAD, "Dead channels", "share"),
    ("activation/zero_share", "Outputs that are 0", "share"),
    ("activation/saturation_share", "Saturated outputs", "share"),
    ("activation/std", "Spread of outputs", "log"),
    ("weight/norm", "Weight norm", "log"),
    ("gradient/cosine", "Cosine of successive gradients", "signed"),
)


def layer_maps(
    records: Sequence[Record], curves: Curves, findings: Iterable[Finding]
) -> list[dict[str, Any]]:
    """For each stream its heat maps (rows of layer and curve) and the distributions by layer."""
    named = [place for finding in findings for place in finding.where if place]
    chosen = {
        (record.stream, name): shown_layers(layer_order(record, name), named)
        for record in records
        for name, _, _ in QUANTITIES
    }
    bins = layer_buckets(sum(map(len, chosen.values())))
    found = []
    for record in records:
        maps, empty = [], []
        for name, title, scale in QUANTITIES:
            rows: list[tuple[str, int]] = []
            for where in chosen[record.stream, name]:
                whole = "activation/channels" if name == DEAD else ""
                number = (
                    curves.share(record, name, whole, where, bins=bins)
                    if whole
                    else curves.add(record, name, where, bins=bins)
                )
                if number >= 0:
                    rows.append((where, number))
            if rows and scale == "share" and curves.highest(index for _, index in rows) < NOTHING:
                empty.append(title.lower())
            elif rows:
                maps.append({"name": name, "title": title, "scale": scale, "rows": rows})
        strips = _strips(record, shown_layers(layer_order(record, "gradient/log_histogram"), named))
        if maps or strips:
            found.append({"stream": record.stream, "maps": maps, "strips": strips, "empty": empty})
    return found


def layer_order(record: Record, name: str) -> list[str]:
    """The places of a series other than the whole model, in the order of the model where it is known."""
    places = [where for where in record.wheres(name) if where]
    rows = [row for event in record.events("parameters") for row in event.data.get("parameters", ())]
    order = {str(row.get("name", "")): i for i, row in enumerate(rows)}
    return sorted(places, key=lambda where: order.get(where, len(order)))


def shown_layers(places: Sequence[str], named: Iterable[str], most: int = MOST_LAYERS) -> list[str]:
    """All layers, or those that findings name and an even choice of the others, in their order."""
    if len(places) <= most:
        return list(places)
    wanted = set(named)
    keep = {i for i, place in enumerate(places) if place in wanted}
    others = [i for i in range(len(places)) if i not in keep]
    room = max(most - len(keep), 0)
    keep |= {others[i] for i in np.linspace(0, len(others) - 1, room).astype(int)} if room else set()
    return [places[i] for i in sorted(keep)[:most]]


def _strips(record: Record, layers: Sequence[str]) -> dict[str, Any]:
    """The distributions of the whole model and of as many layers as may be read."""
    strips = {}
    whole = distribution(record, "", columns=240)
    if whole:
        strips[""] = whole.packed()
    size = 0
    for where in layers:
        size += record.series("gradient/log_histogram", where)[1].size
        if size > HISTOGRAM_VALUES:
            break
        found = distribution(record, where, columns=80)
        if found:
            strips[where] = found.packed()
    return strips
