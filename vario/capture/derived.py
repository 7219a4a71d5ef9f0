"""Quantities that several instruments of a step share, each computed once from what capture offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vario.capture import drawn, entries, layers, predictions, shards
from vario.capture.needs import Derived, Drawn, Offer, Pending

if TYPE_CHECKING:
    from vario.capture.spectra import Spectrum

__all__ = ["DERIVED"]


def _gradient_pieces(offer: Offer) -> entries.Pieces | None:
    return entries.cut(offer["grads"], offer["names"]) if "grads" in offer and "names" in offer else None


def _gradient_norms(offer: Offer) -> Pending | None:
    return entries.norms(offer["gradient_pieces"]) if "gradient_pieces" in offer else None


def _gradient_statistics(offer: Offer) -> Pending | None:
    return entries.statistics(offer["gradient_pieces"]) if "gradient_pieces" in offer else None


def _gradient_histograms(offer: Offer) -> Pending | None:
    return entries.histograms(offer["gradient_pieces"]) if "gradient_pieces" in offer else None


def _gradient_cosines(offer: Offer) -> Pending | None:
    if "gradient_pieces" not in offer or "grads_previous" not in offer:
        return None
    return entries.cosines(offer["gradient_pieces"], entries.cut(offer["grads_previous"], offer["names"]))


def _weight_pieces(offer: Offer) -> entries.Pieces | None:
    return entries.cut(offer["params"], offer["names"]) if "params" in offer and "names" in offer else None


def _weight_norms(offer: Offer) -> Pending | None:
    return entries.norms(offer["weight_pieces"]) if "weight_pieces" in offer else None


def _weight_statistics(offer: Offer) -> Pending | None:
    return entries.statistics(offer["weight_pieces"]) if "weight_pieces" in offer else None


def _changes(offer: Offer) -> Pending | None:
    if "weight_pieces" not in offer or "weights_before" not in offer:
        return None
    return entries.changes(offer["weight_pieces"], entries.cut(offer["weights_before"], offer["names"]))


def _shard_gradients(offer: Offer) -> Pending | None:
    if "shards" not in offer or "shard_grads" not in offer:
        return None
    return shards.gradients(offer["shards"], offer["shard_grads"])


def _shard_weights(offer: Offer) -> Pending | None:
    return shards.weights(offer["shards"]) if "shards" in offer else None


def _shard_moments(offer: Offer) -> Pending | None:
    if "shards" not in offer or "shard_grads" not in offer:
        return None
    return shards.moments(offer["shards"], offer["shard_grads"])


def _shard_histograms(offer: Offer) -> Pending | None:
    if "shards" not in offer or "shard_grads" not in offer:
        return None
    return shards.histograms(offer["shards"], offer["shard_grads"])


def _shard_weight_moments(offer: Offer) -> Pending | None:
    return shards.moments(offer["shards"], offer["shards"].params) if "shards" in offer else None


def _shard_changes(offer: Offer) -> Pending | None:
    return shards.changes(offer["shards"]) if "shards" in offer else None


def _row_ranges(offer: Offer) -> Pending | None:
    if "params" not in offer or "names" not in offer:
        return None
    return entries.row_ranges(offer["params"], offer["names"])


def _activation_statistics(offer: Offer) -> Pending | None:
    return layers.activations(offer["activations"]) if "activations" in offer else None


def _input_spread(offer: Offer) -> Pending | None:
    return layers.spread(offer["inputs"]) if "inputs" in offer else None


def _feature_stds(offer: Offer) -> Pending | None:
    return layers.feature_stds(offer["inputs"]) if "inputs" in offer else None


def _target_spread(offer: Offer) -> Pending | None:
    if "loss_calls" not in offer:
        return None
    return layers.spread(predictions.regression_targets(offer["loss_calls"]))


def _target_pairs(offer: Offer) -> float | None:
    return predictions.regression_pairs(offer["loss_calls"]) if "loss_calls" in offer else None


def _abnormal_share(offer: Offer) -> Pending | None:
    if "attacks" not in offer or "loss_calls" not in offer:
        return None
    return predictions.abnormal_share(offer["attacks"], offer["loss_calls"])


def _labelled_rows(offer: Offer) -> predictions.Rows | None:
    return predictions.rows_of(offer["loss_calls"]) if "loss_calls" in offer else None


def _examples(offer: Offer) -> Pending | None:
    return predictions.examples(offer["labelled_rows"]) if "labelled_rows" in offer else None


def _regression_losses(offer: Offer) -> Pending | None:
    return predictions.regression_losses(offer["loss_calls"]) if "loss_calls" in offer else None


def _regression_labels(offer: Offer) -> Pending | None:
    return predictions.regression_labels(offer["loss_calls"]) if "loss_calls" in offer else None


def _drawn(offer: Offer) -> list[tuple[Drawn, bool]] | None:
    return drawn.drawn_of(offer["loss_calls"]) if "loss_calls" in offer else None


def _class_counts(offer: Offer) -> Pending | None:
    return predictions.class_counts(offer["labelled_rows"]) if "labelled_rows" in offer else None


def _class_weights(offer: Offer) -> Pending | None:
    return predictions.class_weights(offer["loss_calls"]) if "loss_calls" in offer else None


def _logit_ranges(offer: Offer) -> Pending | None:
    return predictions.logit_ranges(offer["loss_calls"]) if "loss_calls" in offer else None


def _example_norms(offer: Offer) -> Pending | None:
    if "example_gradients" not in offer:
        return None
    from vario.capture.per_example.norms import example_norms

    return example_norms(offer["example_gradients"])


def _example_gram(offer: Offer) -> Pending | None:
    if "example_gradients" not in offer:
        return None
    from vario.capture.per_example.norms import example_gram

    rows = offer["labelled_rows"] if "labelled_rows" in offer else None
    return example_gram(offer["example_gradients"], rows)


def _part_norms(offer: Offer) -> Pending | None:
    if "gradient_parts" not in offer:
        return None
    from vario.capture.per_example.norms import part_norms

    return part_norms(offer["gradient_parts"])


def _gradient_spectra(offer: Offer) -> dict[str, Spectrum] | None:
    return _spectra_of(offer, "grads")


def _weight_spectra(offer: Offer) -> dict[str, Spectrum] | None:
    return _spectra_of(offer, "params")


def _spectra_of(offer: Offer, what: str) -> dict[str, Spectrum] | None:
    if what not in offer or "names" not in offer:
        return None
    from vario.capture.spectra import of_matrices

    return of_matrices(offer[what], offer["names"])


def _representation_spectra(offer: Offer) -> dict[str, Spectrum] | None:
    if "activations" not in offer:
        return None
    from vario.capture.spectra import of_activations

    return of_activations(offer["activations"])


def _representation_spectra_few(offer: Offer) -> dict[str, Spectrum] | None:
    if "activations" not in offer:
        return None
    from vario.capture.spectra import FEW_ROWS, of_activations

    return of_activations(offer["activations"], FEW_ROWS)


DERIVED: dict[str, Derived] = {
    "gradient_pieces": Derived(frozenset({"grads", "names"}), _gradient_pieces),
    "gradient_norms": Derived(frozenset({"gradient_pieces"}), _gradient_norms),
    "gradient_statistics": Derived(frozenset({"gradient_pieces"}), _gradient_statistics),
    "gradient_histograms": Derived(frozenset({"gradient_pieces"}), _gradient_histograms),
    "gradient_cosines": Derived(frozenset({"gradient_pieces", "grads_previous", "names"}), _gradient_cosines),
    "weight_pieces": Derived(frozenset({"params", "names"}), _weight_pieces),
    "weight_norms": Derived(frozenset({"weight_pieces"}), _weight_norms),
    "weight_statistics": Derived(frozenset({"weight_pieces"}), _weight_statistics),
    "changes": Derived(frozenset({"weight_pieces", "weights_before", "names"}), _changes),
    "shard_gradients": Derived(frozenset({"shards", "shard_grads"}), _shard_gradients),
    "shard_weights": Derived(frozenset({"shards"}), _shard_weights),
    "shard_changes": Derived(frozenset({"shards"}), _shard_changes),
    "shard_moments": Derived(frozenset({"shards", "shard_grads"}), _shard_moments),
    "shard_histograms": Derived(frozenset({"shards", "shard_grads"}), _shard_histograms),
    "shard_weight_moments": Derived(frozenset({"shards"}), _shard_weight_moments),
    "row_ranges": Derived(frozenset({"params", "names"}), _row_ranges),
    "activation_statistics": Derived(frozenset({"activations"}), _activation_statistics),
    "input_spread": Derived(frozenset({"inputs"}), _input_spread),
    "feature_stds": Derived(frozenset({"inputs"}), _feature_stds),
    "target_spread": Derived(frozenset({"loss_calls"}), _target_spread),
    "target_pairs": Derived(frozenset({"loss_calls"}), _target_pairs),
    "abnormal_share": Derived(frozenset({"loss_calls", "attacks"}), _abnormal_share),
    "labelled_rows": Derived(frozenset({"loss_calls"}), _labelled_rows),
    "examples": Derived(frozenset({"labelled_rows"}), _examples),
    "regression_losses": Derived(frozenset({"loss_calls"}), _regression_losses),
    "regression_labels": Derived(frozenset({"loss_calls"}), _regression_labels),
    "drawn": Derived(frozenset({"loss_calls"}), _drawn),
    "class_counts": Derived(frozenset({"labelled_rows"}), _class_counts),
    "class_weights": Derived(frozenset({"loss_calls"}), _class_weights),
    "logit_ranges": Derived(frozenset({"loss_calls"}), _logit_ranges),
    "example_norms": Derived(frozenset({"example_gradients", "inputs"}), _example_norms),
    "example_gram": Derived(
        frozenset({"example_gradients", "example_products", "inputs", "labelled_rows"}), _example_gram
    ),
    "part_norms": Derived(frozenset({"gradient_parts", "inputs"}), _part_norms),
    "gradient_spectra": Derived(frozenset({"grads", "names"}), _gradient_spectra),
    "weight_spectra": Derived(frozenset({"params", "names"}), _weight_spectra),
    "representation_spectra": Derived(frozenset({"activations"}), _representation_spectra),
    "representation_spectra_few": Derived(frozenset({"activations"}), _representation_spectra_few),
}
