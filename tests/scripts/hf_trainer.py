"""The Trainer of transformers on a tiny random GPT-2, with accumulation and evaluation."""

import os
import tempfile

os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch  # noqa: E402
from ended import ended  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed  # noqa: E402

set_seed(0)
rows = [{"input_ids": row, "labels": row} for row in torch.randint(0, 50, (64, 12))]
config = GPT2Config(
    vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
)
model = GPT2LMHeadModel(config)
arguments = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    num_train_epochs=2,
    per_device_train_batch_size=4,
    per_device_eval_batch_size=4,
    gradient_accumulation_steps=2,
    learning_rate=1e-2,
    logging_steps=1,
    eval_strategy="epoch",
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
    use_cpu=True,
)
trainer = Trainer(model=model, args=arguments, train_dataset=rows[:48], eval_dataset=rows[48:])
trainer.train()
for line in trainer.state.log_history:
    for key in ("loss", "eval_loss"):
        if key in line:
            print(f"{key} {line[key]}")
print(f"steps {trainer.state.global_step}")
ended(model, trainer.optimizer)
