"""The problems of papers whose answers are known: what each script must print, and what must be said of it.

The scripts lie in `known_answers/`. The bounds of the figures were fixed beforehand, by a first measurement
of the claim of each paper; departures are named in the scripts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vario.problems.sgd_structured_features import SgdStructuredFeatures

__all__ = ["KNOWN", "Known"]


@dataclass(frozen=True)
class Known:
    """One script and its flags. `says`: one of these ids is first; `never`: none of them is above advice.

    `tells`: these ids are told, at any place. `cannot`: these ids are not applicable, since the run does not
    show it. `silent`: nothing but advice.
    """

    paper: str
    program: str
    flags: str = ""
    figures: dict[str, tuple[float, float]] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()
    silent: bool = False
    quick: bool = False  # less than five seconds

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.program, self.flags)))


GROKKING, SHORTCUT = "delayed-generalization", "shortcut-features"
HIGH, LOW = "learning-rate-too-high", "learning-rate-too-low"
INSTABLE = (HIGH, "oscillating-loss", "diverging", "exploding-gradients")
HALF = (0.45, 0.55)

FEATURES = SgdStructuredFeatures(noise=0.25)  # as `structured_features` draws them


def _excess(rate: float, batch: int, steps: int, off: float) -> tuple[float, float]:
    """Of the closed form, give or take what a single run of such batches is off."""
    exact = float(FEATURES.curve(rate, batch, steps)[-1])
    return exact * (1 - off), exact * (1 + off)


KNOWN = (
    Known(
        "P018", "xor_clusters",
        figures={
            "train accuracy after 1": (1, 1), "test accuracy after 1": (0.4, 0.6),
            "test accuracy after 8": (0.98, 1), "train accuracy after 8": (1, 1),
        },
        says=(GROKKING,), silent=True, quick=True,
    ),
    Known(
        "P018", "xor_clusters", "--model logistic --flip 0",
        figures={"train accuracy after 12": (1, 1), "test accuracy after 12": (0.4, 0.6)},
        never=(GROKKING,), silent=True,
    ),
    # Which coordinate an answer rests on takes evaluations with that coordinate shuffled: no run shows it.
    Known(
        "P071", "slabs",
        figures={
            "accuracy": (0.99, 1), "accuracy with the line shuffled": (0.4, 0.6),
            "accuracy with the slabs shuffled": (0.99, 1),
        },
        cannot=(SHORTCUT,), silent=True,
    ),
    Known(
        "P071", "slabs", "--line noise",
        figures={"accuracy": (0.95, 1), "accuracy with the line shuffled": (0.95, 1)},
        cannot=(SHORTCUT,), silent=True,
    ),
    *(
        Known(
            "P072", "lazy_to_rich", f"--alpha {alpha}",
            figures={
                "delay": delay, "relative movement of the weights": moved,
                "alignment over that at the start": (2, 20),
            },
            says=(GROKKING,), silent=True,
        )
        for alpha, delay, moved in (
            (0.5, (2.0, 2.4), (2.2, 3.2)), (1, (2.4, 2.8), (1.6, 2.2)), (2, (2.9, 4), (1.0, 1.5))
        )
    ),
    Known(
        "P064", "softmax_collapse", "--seed 131",
        figures={"test accuracy": (0, 0.05), "share with zero loss": (0.3, 1)},
        says=("softmax-collapse", "overfitting"), tells=("softmax-collapse",),
        never=("label-noise", "train-test-leakage"),
    ),
    Known(
        "P064", "softmax_collapse", "--seed 131 --dtype float64",
        figures={"test accuracy": (0, 0.05), "share with zero loss": (0, 0)},
        never=("softmax-collapse", "label-noise", "train-test-leakage"),
    ),
    Known("P257", "deep_norm", figures={"growth per layer": (0.01, 0.03)}, says=("exploding-gradients",)),
    Known(
        "P257", "deep_norm", "--weights orthogonal",
        figures={"growth per layer": (-0.003, 0.003)}, silent=True,
    ),
    # That a lower minimum lies elsewhere a run which came to rest cannot know.
    Known(
        "P345", "large_step", "--sharpness 1",
        figures={"share in the sharp minimum's basin": (1, 1), "share at rest": (1, 1)},
        cannot=(LOW,), silent=True, quick=True,
    ),
    Known(
        "P345", "large_step", "--sharpness 3",
        figures={"share in the sharp minimum's basin": (1, 1), "share at rest": (0, 0)},
        says=INSTABLE, never=(LOW,), quick=True,
    ),
    Known(
        "P345", "large_step", "--sharpness 10",
        figures={"share in the wide minimum": (1, 1)}, never=(LOW, *INSTABLE), silent=True, quick=True,
    ),
    Known("P086", "rare_digits", says=("class-imbalance", "class-neglected"), quick=True),
    Known("P086", "rare_digits", "--sampler balanced", never=("class-imbalance", "class-neglected")),
    Known(
        "P069", "single_step_attack", "--epsilon 0.3",
        figures={
            "abnormal share": (0.1, 1), "accuracy under one step": (0.4, 1),
            "accuracy under ten steps": (0, 0.1),
        },
        says=("catastrophic-overfitting",),
    ),
    Known(
        "P069", "single_step_attack", "--epsilon 0.2",
        figures={"abnormal share": (0, 0.002), "accuracy under ten steps": (0.4, 1)}, silent=True,
    ),
    Known("P070", "flipped_digits", says=("memorization", "overfitting"), tells=("memorization",)),
    Known("P070", "flipped_digits", "--flip 0", never=("label-noise", "memorization")),
    Known(
        "P032", "chosen_features",
        figures={"holdout accuracy": (0.7, 1), "fresh accuracy": HALF}, says=("holdout-overuse",), quick=True,
    ),
    Known(
        "P032", "chosen_features", "--choose train",
        figures={"holdout accuracy": HALF, "fresh accuracy": HALF}, never=("holdout-overuse",),
    ),
    # Where gradients with respect to the inputs lie is no part of a run.
    Known(
        "P026", "block_digits",
        figures={"accuracy": (0.99, 1), "gradient on the digit": (0, 0.62)}, cannot=(SHORTCUT,), silent=True,
    ),
    Known(
        "P026", "block_digits", "--attack 2",
        figures={"accuracy": (0.98, 1), "gradient on the digit": (0.72, 1)}, cannot=(SHORTCUT,), silent=True,
    ),
    # Of a single example nothing tells signal from noise.
    Known(
        "P229", "structured_features", "--batch 1",
        cannot=("batch-too-small", "batch-too-large"), silent=True,
    ),
    Known(
        "P229", "structured_features", "--batch 1024 --lr 0.02 --steps 150",
        figures={"excess": _excess(0.02, 1024, 150, 0.03)}, says=("batch-too-large",), silent=True,
        quick=True,
    ),
    Known(
        "P229", "structured_features", "--batch 8 --lr 0.2 --steps 128",  # 8 is best for so many examples
        figures={"excess": _excess(0.2, 8, 128, 0.3)}, never=("batch-too-large", "batch-too-small"),
        silent=True,
    ),
    Known(
        "P229", "structured_features", "--batch 512 --lr 1e-9 --steps 400",
        figures={"excess": _excess(1e-9, 512, 400, 1e-3)}, says=(LOW,), never=(HIGH,), quick=True,
    ),
    Known(
        "P028", "perceptron", "--examples 250 --temperature 4",
        never=(HIGH, LOW, "batch-too-small", "batch-too-large"), silent=True,
    ),
)  # fmt: skip
