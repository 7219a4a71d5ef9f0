"""Lightning, with accumulation, clipping and validation."""

import logging
import tempfile
import warnings

import torch
from ended import ended
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
import lightning  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Classifier(lightning.LightningModule):
    """A small classifier."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def training_step(self, batch, index):
        """Loss of one batch."""
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.net(inputs), targets)
        print(f"micro {loss.item():.6f}")
        return loss

    def validation_step(self, batch, index):
        """Loss of one held-out batch."""
        inputs, targets = batch
        self.log("val", nn.functional.cross_entropy(self.net(inputs), targets))

    def on_validation_epoch_end(self):
        """Say it."""
        if not self.trainer.sanity_checking:
            print(f"val {self.trainer.callback_metrics['val'].item():.6f}")

    def configure_optimizers(self):
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


lightning.seed_everything(0, verbose=False)
data = TensorDataset(torch.randn(96, 8), torch.randint(0, 3, (96,)))
held_out = TensorDataset(torch.randn(32, 8), torch.randint(0, 3, (32,)))
classifier = Classifier()
trainer = lightning.Trainer(
    max_epochs=2,
    accumulate_grad_batches=2,
    gradient_clip_val=0.5,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    accelerator="cpu",
    default_root_dir=tempfile.gettempdir(),
)
trainer.fit(classifier, DataLoader(data, 16, shuffle=True), DataLoader(held_out, 16))
print(f"steps {trainer.global_step}")
ended(classifier, trainer.optimizers[0])
