"""How much of the gradient is known by example on models that others wrote, and whether it is right.

    python -m bench.engine_coverage [--only NAME ...]

Small models of `transformers` with random weights, in double precision, with dropout as they train. Each
norm is compared with a backward of that example's part of the loss through the same graph. Printed for each:
the share of the gradient's squared norm that is seen, the largest error of a norm over the largest norm of
the parameter (without and with the check by one example), and why the rest is not seen. A model that this
release of the library does not have, or not so, is left out with its words.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vario.capture.per_example.found import ExampleGradients
from vario.capture.per_example.probe import Probe

BATCH, LENGTH, WORDS = 4, 12, 50
CAUSAL = """Llama Mistral Qwen2 Qwen3 Gemma Gemma2 Phi Phi3 Cohere StableLm Starcoder2 Olmo2 Granite Glm
    Nemotron Persimmon GPTNeoX Falcon Mamba Rwkv Bloom Mixtral Qwen2Moe Qwen3Moe Olmoe DeepseekV3""".split()
MASKED = """Bert Roberta Electra DistilBert DebertaV2 ModernBert BigBird ConvBert MPNet RoFormer Nystromformer
    Longformer FNet MegatronBert XLMRoberta Yoso Albert""".split()
TRANSLATING = "Bart Pegasus MBart Blenderbot M2M100 LED NllbMoe".split()
PICTURES = "ViT DeiT Dinov2 Beit Swin Swinv2 ConvNext ConvNextV2 ResNet Bit".split()
WIDTHS: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
STAGES: dict[str, dict[str, Any]] = {
    "Swin": {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "patch_size": 2},
    "ConvNext": {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2},
    "ResNet": {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]},
    "Bit": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_groups": 2},
}
_FOUR: dict[str, Any] = {"num_experts_per_tok": 2, "experts_implementation": "eager"}  # experts
EXPERTS: dict[str, dict[str, Any]] = {
    "Mixtral": _FOUR | {"num_local_experts": 4},
    "Qwen2Moe": _FOUR
    | {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "Qwen3Moe": _FOUR | {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "Olmoe": _FOUR | {"num_experts": 4},
    "DeepseekV3": _FOUR
    | {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 16}
    | {"first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8}
    | {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8},
    "NllbMoe": {"num_experts": 4, "expert_capacity": 8, "encoder_sparse_step": 2, "decoder_sparse_step": 2},
    "SwitchTransformers": {"num_experts": 4, "expert_capacity": 8, "num_decoder_layers": 2}
    | {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
}
STAGES |= {"Swinv2": STAGES["Swin"], "ConvNextV2": STAGES["ConvNext"]}
Made = tuple[nn.Module, dict[str, Tensor], bool]  # and whether there is a row of logits for every token


def made(library: Any) -> Iterator[tuple[str, Callable[[], Made]]]:
    """Every model by name, not yet made."""
    words = torch.randint(3, WORDS, (BATCH, LENGTH))
    pixels = torch.randn(BATCH, 3, 32, 32)

    def build(name: str, kind: str, inputs: dict[str, Tensor], rows: bool, **settings: Any) -> Made:
        config = getattr(library, f"{name}Config")(**settings)
        return getattr(library, f"{name}{kind}")(config), inputs, rows

    by_words = {"input_ids": words}
    for name in CAUSAL:
        more: dict[str, Any] = {} if name == "Mamba" else {"num_key_value_heads": 2}
        more |= {"head_dim": 8} if name.startswith("Gemma") else {}
        yield (
            name,
            partial(build, name, "ForCausalLM", by_words, True, **WIDTHS | more | EXPERTS.get(name, {})),
        )
    for name in MASKED:
        more = {"attention_window": 4} if name == "Longformer" else {}
        yield name, partial(build, name, "ForMaskedLM", by_words, True, **WIDTHS, **more)
    sides = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    sides |= {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_start_token_id": 1}
    both = by_words | {"decoder_input_ids": words.flip(0)[:, :9]}
    for name in TRANSLATING:
        more = sides | ({"attention_window": 4} if name == "LED" else {}) | EXPERTS.get(name, {})
        yield name, partial(build, name, "ForConditionalGeneration", both, True, **WIDTHS, **more)
    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
    for name in ("T5", "SwitchTransformers"):
        more = {"vocab_size": WORDS} | t5 | EXPERTS.get(name, {})
        yield name, partial(build, name, "ForConditionalGeneration", both, True, **more)
    for name in PICTURES:
        plain = {key: value for key, value in WIDTHS.items() if "vocab" not in key and "token" not in key}
        more = {"image_size": 32} | STAGES.get(name, {"patch_size": 8} | plain)
        shown = {"pixel_values": pixels}
        yield name, partial(build, name, "ForImageClassification", shown, False, num_labels=3, **more)
    for name in ("GPT2", "Llama"):
        last = partial(build, name, "ForSequenceClassification", by_words, False, num_labels=3, **WIDTHS)
        yield f"{name}, last word", last


def looked_at(model: nn.Module, loss: Tensor, check: int | None) -> ExampleGradients:
    """What the probe finds in one backward, which leaves the graph."""
    probe = Probe(loss, {id(p): n for n, p in model.named_parameters()}, examples=BATCH, check=check)
    loss.backward(retain_graph=True)
    return probe.close()


def one_by_one(model: nn.Module, parts: Tensor) -> dict[str, Tensor]:
    """Norms of the gradients of each part of the loss, by parameter."""
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    norms: dict[str, list[Tensor]] = {name: [] for name in params}
    for part in parts:
        grads = torch.autograd.grad(part, list(params.values()), retain_graph=True, allow_unused=True)
        for name, grad in zip(params, grads, strict=True):
            norms[name].append(parts.new_zeros(()) if grad is None else grad.norm())
    return {name: torch.stack(values) for name, values in norms.items()}


def largest_error(found: ExampleGradients, wanted: dict[str, Tensor]) -> float:
    """Of all norms; of parameters that have next to none, over a hundredth of the largest of all."""
    least = 1e-2 * max(float(norms.max()) for norms in wanted.values())
    errors = [
        float((squares.double().sqrt() - wanted[name]).abs().max()) / max(float(wanted[name].max()), least)
        for name, squares in found.squares.items()
    ]
    return max(errors, default=0.0)


def measure(name: str, make: Callable[[], Made]) -> None:
    """Print the line of one model."""
    torch.manual_seed(0)
    model, inputs, rows = make()
    model = model.double().train()
    logits = model(**{k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}).logits
    targets = torch.randint(0, logits.shape[-1], logits.shape[:-1] if rows else (BATCH,))
    each = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    wanted = one_by_one(model, each.view(BATCH, -1).sum(dim=1) / len(each))
    loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
    bare, checked = looked_at(model, loss, None), looked_at(model, loss, 1)
    whole = sum(map(float, checked.batch_squares.values()))
    seen = sum(float(checked.batch_squares[n]) for n in checked.squares) / whole
    wrong = f"{largest_error(bare, wanted):.0e} {largest_error(checked, wanted):.0e}"
    why = collections.Counter(checked.missed.values()).most_common(2)
    count = f"{len(checked.squares):3}/{len(checked.batch_squares):<3}"
    print(f"{name:18} seen {seen:6.1%}  {count} {wrong}  {why or ''}")


def main() -> None:
    """Read the arguments."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--only", nargs="*", default=[], help="models by name")
    given = ask.parse_args()
    import transformers

    torch.set_num_threads(1)
    for name, make in made(transformers):
        if not given.only or name in given.only:
            try:
                measure(name, make)
            except Exception as error:
                print(f"{name:18} -- {type(error).__name__}: {str(error).partition(chr(10))[0][:80]}")


if __name__ == "__main__":
    main()
