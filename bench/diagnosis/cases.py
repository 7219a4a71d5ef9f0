"""The cases of the benchmark: a base program, its flags, and what is wrong with it (labels live here)."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Thresholds may be chosen by looking at these programs only; the figures that count come from the others.
TUNING = ("mlp", "gru", "tabular", "residual_cnn", "contrastive")
HELD_OUT = ("cnn", "char_transformer", "autoencoder", "gan")

# What each fault is to be called: the right id, then others that name the same thing as truly.
LABELS: dict[str, tuple[str, ...]] = {
    "lr-high": ("learning-rate-too-high",),
    "lr-low": ("learning-rate-too-low",),
    "schedule-per-batch": ("learning-rate-decayed-too-early",),
    "no-zero-grad": ("gradients-accumulate",),
    "frozen": ("parameters-not-updated",),
    "forgotten": ("parameters-not-updated",),
    "detached": ("no-gradient",),
    "deep-sigmoid": ("vanishing-gradients",),
    "clip": ("gradient-clipping-dominates",),
    "weight-decay": ("weight-decay-dominates",),
    "epsilon": ("adam-epsilon-dominates",),
    "dropout": ("excessive-regularization",),
    "dead-relu": ("dead-units",),
    "double-softmax": ("double-softmax",),
    "nan-data": ("non-finite-input",),
    "raw-inputs": ("unnormalized-inputs",),
    "target-scale": ("target-scale",),
    "same-init": ("symmetric-initialization",),
    "large-init": ("poor-initialization",),
    "eval-mode": ("train-eval-mode",),
    "shuffled-labels": ("label-noise", "memorization"),
    "shuffled-text": ("loss-plateau", "underfitting"),  # frequencies of characters are all there is to learn
    "label-noise": ("label-noise",),
    "sorted": ("unshuffled-data",),
    "imbalance": ("class-imbalance", "class-neglected"),
    "overfit": ("overfitting", "memorization"),
    "duplicates": ("duplicate-examples",),
    "leakage": ("train-test-leakage",),
    "small-batch": ("batch-too-small",),
    "large-batch": ("batch-too-large",),
    "small-norm-batch": ("batchnorm-small-batch",),
    "narrow": ("underfitting",),
    "low-precision": ("low-precision-underflow",),
    "saturated": ("saturated-activations", "poor-initialization"),
    "outliers": ("outlier-examples", "loss-spikes", "gradient-spikes"),
}
SPINE = (
    "lr-high", "no-zero-grad", "shuffled-labels", "shuffled-text", "double-softmax", "label-noise",
    "nan-data",
    "frozen", "deep-sigmoid", "dead-relu", "sorted", "schedule-per-batch",
)  # fmt: skip

# Flags of each fault, program by program; "" = the program's own switch `--fault NAME` does it.
SICK: dict[str, dict[str, str]] = {
    "mlp": {
        **dict.fromkeys(
            "no-zero-grad double-softmax nan-data frozen forgotten detached deep-sigmoid "
            "dead-relu sorted raw-inputs "
            "same-init large-init imbalance duplicates leakage".split(),
            "",
        ),
        "schedule-per-batch": "--epochs 8",
        "lr-high": "--lr 6",
        "lr-low": "--lr 0.0003",
        "shuffled-labels": "--epochs 60 --train 1000",
        "label-noise": "--epochs 30",
        "clip": "--clip 0.01",
        "weight-decay": "--weight-decay 0.5",
        "epsilon": "--optimizer adam --lr 0.001 --eps 1",
        "dropout": "--dropout 0.95",
        "overfit": "--train 200 --epochs 150",
        "saturated": "",
        "low-precision": "--lr 0.01",
        "small-batch": "--batch 2 --lr 0.005 --epochs 1 --train 2000",
        "large-batch": "--batch 2000 --lr 0.3 --epochs 60",
        "narrow": "--width 2 --depth 1",
    },
    "cnn": {
        **dict.fromkeys(
            "no-zero-grad double-softmax nan-data frozen forgotten detached dead-relu sorted "
            "large-init imbalance "
            "eval-mode".split(),
            "",
        ),
        "deep-sigmoid": "--optimizer sgd --lr 0.05",
        "schedule-per-batch": "--epochs 5",
        "lr-high": "--optimizer sgd --lr 3",
        "lr-low": "--lr 0.000003",
        "shuffled-labels": "--epochs 25 --train 1000",
        "label-noise": "--epochs 12",
        "epsilon": "--eps 10",
        "dropout": "--dropout 0.98",
        "overfit": "--train 150 --epochs 60",
        "small-norm-batch": "--batch 2 --epochs 1 --train 1500",
    },
    "char_transformer": {
        **dict.fromkeys("no-zero-grad double-softmax frozen forgotten detached large-init".split(), ""),
        "schedule-per-batch": "--steps 400",
        "lr-high": "--lr 0.12",
        "lr-low": "--lr 0.000005 --warmup 1",
        "shuffled-text": "",
        "label-noise": "",
        "epsilon": "--eps 1",
        "weight-decay": "--weight-decay 100",
        "narrow": "--width 2 --heads 1",
    },
    "gru": {
        **dict.fromkeys(
            "no-zero-grad double-softmax nan-data frozen forgotten detached deep-sigmoid dead-relu sorted "
            "schedule-per-batch".split(),
            "",
        ),
        "lr-high": "--lr 0.18",
        "lr-low": "--lr 0.00001",
        "shuffled-labels": "--epochs 80",
        "label-noise": "--epochs 40",
        "epsilon": "--eps 1",
        "clip": "--optimizer sgd --lr 0.05 --clip 0.003",
        "dropout": "--dropout 0.97",
        "outliers": "",
    },
    "tabular": {
        **dict.fromkeys(
            "no-zero-grad nan-data frozen forgotten detached deep-sigmoid dead-relu sorted "
            "schedule-per-batch raw-inputs "
            "target-scale".split(),
            "",
        ),
        "lr-high": "--lr 0.18",
        "lr-low": "--lr 0.00002",
        "epsilon": "--eps 10",
        "weight-decay": "--weight-decay 10",
        "overfit": "--weight-decay 0 --epochs 150 --width 64",
        "outliers": "",
    },
    "residual_cnn": {
        **dict.fromkeys(
            "no-zero-grad double-softmax nan-data frozen forgotten detached sorted "
            "schedule-per-batch eval-mode "
            "leakage".split(),
            "",
        ),
        "schedule-per-batch": "--schedule step",
        "lr-high": "--lr 3",
        "lr-low": "--lr 0.00005 --schedule cosine",
        "shuffled-labels": "--epochs 40",
        "label-noise": "--epochs 20",
        "small-norm-batch": "--batch-size 2 --epochs 2",
    },
    "autoencoder": {
        **dict.fromkeys(
            "no-zero-grad nan-data frozen forgotten detached deep-sigmoid dead-relu schedule-per-batch".split(), ""  # noqa: E501
        ),
        "lr-high": "--lr 0.12",
        "lr-low": "--lr 0.000005",
        "epsilon": "--eps 1",
    },
    "contrastive": {
        **dict.fromkeys("no-zero-grad nan-data frozen forgotten detached schedule-per-batch".split(), ""),
        "lr-high": "--lr 0.3",
        "epsilon": "--eps 1",
    },
    "gan": dict.fromkeys("nan-data frozen".split(), ""),
}  # fmt: skip

# The same faults at a second strength, about half. Switches (a missing zero_grad, a second softmax, a frozen
# layer, one NaN, sorted data) have none.
MILD: dict[str, dict[str, str]] = {
    "mlp": {
        "deep-sigmoid": "--strength 0.7",
        "dead-relu": "--strength 0.75",
        "large-init": "--strength 0.5",
        "imbalance": "--strength 0.5",
        "duplicates": "--strength 0.5",
        "leakage": "--strength 0.3",
        "label-noise": "--epochs 30 --strength 0.5",
        "lr-high": "--lr 2",
        "lr-low": "--lr 0.001",
        "clip": "--clip 0.03",
        "weight-decay": "--weight-decay 0.1",
        "epsilon": "--optimizer adam --lr 0.001 --eps 0.1",
        "dropout": "--dropout 0.9",
        "overfit": "--train 400 --epochs 100",
    },
    "cnn": {
        "deep-sigmoid": "--optimizer sgd --lr 0.05 --strength 0.6",
        "dead-relu": "--strength 0.75",
        "large-init": "--strength 0.5",
        "imbalance": "--strength 0.5",
        "label-noise": "--epochs 12 --strength 0.5",
        "lr-high": "--optimizer sgd --lr 1.5",
        "lr-low": "--lr 0.00001",
        "epsilon": "--eps 1",
        "dropout": "--dropout 0.95",
        "overfit": "--train 300 --epochs 40",
    },
    "char_transformer": {
        "lr-high": "--lr 0.06",
        "lr-low": "--lr 0.00002 --warmup 1",
        "label-noise": "--strength 0.5",
        "epsilon": "--eps 0.1",
        "weight-decay": "--weight-decay 30",
    },
    "gru": {
        "deep-sigmoid": "--strength 0.7",
        "dead-relu": "--strength 0.75",
        "label-noise": "--epochs 40 --strength 0.5",
        "lr-high": "--lr 0.1",
        "lr-low": "--lr 0.00003",
        "epsilon": "--eps 0.1",
        "clip": "--optimizer sgd --lr 0.05 --clip 0.01",
        "dropout": "--dropout 0.93",
    },
    "tabular": {
        "deep-sigmoid": "--strength 0.7",
        "dead-relu": "--strength 0.75",
        "target-scale": "--strength 0.1",
        "lr-high": "--lr 0.09",
        "lr-low": "--lr 0.00005",
        "epsilon": "--eps 1",
        "weight-decay": "--weight-decay 3",
        "overfit": "--weight-decay 0 --epochs 150 --width 32",
    },
    "residual_cnn": {
        "leakage": "--strength 0.3",
        "label-noise": "--epochs 20 --strength 0.5",
        "lr-high": "--lr 1.5",
        "lr-low": "--lr 0.0001 --schedule cosine",
    },
    "autoencoder": {
        "dead-relu": "--strength 0.75",
        "lr-high": "--lr 0.06",
        "lr-low": "--lr 0.00002",
        "epsilon": "--eps 0.1",
    },
    "contrastive": {"lr-high": "--lr 0.15", "epsilon": "--eps 0.1"},
}

# Two faults in one run, neither of which brings the other about or hides it.
PAIRS: tuple[tuple[str, str, str, str], ...] = (
    ("mlp", "forgotten", "label-noise", "--epochs 30"),
    ("mlp", "leakage", "imbalance", ""),
    ("mlp", "leakage", "schedule-per-batch", "--epochs 8"),
    ("mlp", "leakage", "double-softmax", ""),
    ("mlp", "leakage", "no-zero-grad", ""),
    ("mlp", "duplicates", "dead-relu", ""),
    ("mlp", "double-softmax", "sorted", ""),
    ("mlp", "sorted", "frozen", ""),
    ("mlp", "forgotten", "leakage", ""),
    ("mlp", "raw-inputs", "leakage", ""),
    ("cnn", "eval-mode", "label-noise", "--epochs 12"),
    ("cnn", "forgotten", "imbalance", ""),
    ("cnn", "double-softmax", "sorted", ""),
    ("cnn", "eval-mode", "frozen", ""),
    ("gru", "forgotten", "label-noise", "--epochs 40"),
    ("gru", "double-softmax", "frozen", ""),
    ("gru", "sorted", "forgotten", ""),
    ("tabular", "target-scale", "forgotten", ""),
    ("tabular", "schedule-per-batch", "frozen", ""),
    ("tabular", "sorted", "raw-inputs", ""),
    ("residual_cnn", "eval-mode", "leakage", ""),
    ("residual_cnn", "forgotten", "label-noise", "--epochs 20"),
    ("residual_cnn", "double-softmax", "leakage", ""),
    ("char_transformer", "double-softmax", "forgotten", ""),
    ("char_transformer", "schedule-per-batch", "frozen", ""),
    ("autoencoder", "schedule-per-batch", "forgotten", ""),
)

# Healthy runs: what people do and that works, on each program.
HEALTHY: dict[str, tuple[str, ...]] = {
    "mlp": (
        "", "--lr 0.05", "--lr 0.2", "--optimizer adam --lr 0.001",
        "--optimizer adamw --lr 0.001 --weight-decay 0.01",
        "--momentum 0.9 --lr 0.02", "--dropout 0.3 --epochs 8", "--schedule cosine", "--schedule step",
        "--schedule warmup", "--clip 1.0", "--accumulate 2 --lr 0.2", "--batch 32",
        "--batch 256 --lr 0.3 --epochs 10",
        "--width 256 --depth 3", "--weight-decay 0.0005", "--optimizer rmsprop --lr 0.001",
    ),
    "cnn": (
        "", "--lr 0.0005", "--lr 0.003", "--optimizer sgd --lr 0.02", "--dropout 0.5", "--schedule step",
        "--weight-decay 0.05", "--batch 32", "--channels 16", "--clip 1.0",
    ),
    "char_transformer": (
        "", "--lr 0.001", "--lr 0.004", "--schedule cosine", "--dropout 0.1", "--warmup 60", "--clip 0",
        "--layers 3", "--weight-decay 0.1", "--batch 8",
    ),
    "gru": (
        "", "--lr 0.001 --epochs 15", "--lr 0.006", "--optimizer sgd --lr 0.1", "--dropout 0.3",
        "--schedule steps",
        "--clip 0", "--hidden 128", "--batch 64 --epochs 15", "--weight-decay 0.0001",
    ),
    "tabular": (
        "", "--lr 0.001 --epochs 40", "--lr 0.01", "--optimizer sgd --lr 0.01", "--schedule exponential",
        "--width 32",
        "--batch 32 --epochs 30", "--dropout 0.1",
    ),
    "residual_cnn": (
        "", "--lr 0.02", "--lr 0.1", "--optimizer adam --lr 0.002", "--schedule step", "--smoothing 0.1",
        "--blocks 4", "--batch-size 32",
    ),
    "autoencoder": ("", "--lr 0.001", "--lr 0.004", "--loss bce", "--code 32", "--schedule exponential"),
    "contrastive": ("", "--lr 0.001", "--lr 0.004", "--temperature 0.5", "--batch 256"),
    "gan": ("", "--lr 0.0002", "--lr 0.001", "--beta1 0.9"),
}  # fmt: skip


# Faults that flags alone make; every other one is a switch of the program.
BY_FLAGS = frozenset(
    "lr-high lr-low clip weight-decay epsilon dropout overfit small-batch large-batch small-norm-batch "
    "narrow".split()
)


@dataclass(frozen=True)
class Case:
    """One run: which program, with which flags and seed, and what is to be found (nothing where healthy)."""

    program: str
    fault: str  # "" = healthy; "a+b" = two at once
    flags: str
    seed: int
    number: int = 0  # of the healthy variant
    mild: bool = False

    @property
    def name(self) -> str:
        what = self.fault or f"healthy{self.number}"
        return f"{self.program}-{what}-{'mild-' if self.mild else ''}{self.seed}"

    @property
    def wanted(self) -> tuple[tuple[str, ...], ...]:
        """For each fault the ids that name it truly."""
        return tuple(LABELS[fault] for fault in self.fault.split("+")) if self.fault else ()

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label for labels in self.wanted for label in labels)

    @property
    def pair(self) -> bool:
        return "+" in self.fault

    @property
    def held_out(self) -> bool:
        return self.program in HELD_OUT

    @property
    def arguments(self) -> list[str]:
        switch = [] if not self.fault or self.fault in BY_FLAGS else ["--fault", self.fault]
        return [*self.flags.split(), *switch, "--seed", str(self.seed)]


def cases(seeds: int, *, spine: bool = False) -> list[Case]:
    """All cases over ``seeds`` seeds; ``spine``: plain healthy runs and the faults named there."""
    found: list[Case] = []
    for program, faults in SICK.items():
        chosen = [Case(program, f, flags, 0) for f, flags in faults.items() if f in SPINE or not spine]
        if not spine:
            chosen += [Case(program, f, flags, 0, mild=True) for f, flags in MILD.get(program, {}).items()]
            chosen += [Case(program, f"{a}+{b}", flags, 0) for name, a, b, flags in PAIRS if name == program]
        variants = HEALTHY[program][: 1 if spine else None]
        chosen += [Case(program, "", flags, 0, k) for k, flags in enumerate(variants)]
        found += [replace(case, seed=seed) for case in chosen for seed in range(seeds)]
    return found
