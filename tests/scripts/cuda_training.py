"""A convolutional net in half precision on a GPU, fed by pinned memory, with a schedule and an evaluation."""

import torch
from ended import ended
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.use_deterministic_algorithms(True)
torch.manual_seed(0)
device = torch.device("cuda")
x, y = torch.randn(640, 1, 16, 16), torch.randint(0, 4, (640,))
train = DataLoader(TensorDataset(x[:512], y[:512]), batch_size=64, shuffle=True, pin_memory=True)
test = DataLoader(TensorDataset(x[512:], y[512:]), batch_size=64, pin_memory=True)
model = nn.Sequential(
    *(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten()),
    *(nn.Dropout(0.1), nn.Linear(4608, 4)),
).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
scaler = torch.amp.GradScaler("cuda")
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=8 * 8)
ahead = torch.cuda.Stream()  # as prefetchers have one

for _ in range(8):
    model.train()
    for images, labels in train:
        with torch.cuda.stream(ahead):
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        torch.cuda.current_stream().wait_stream(ahead)
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = nn.functional.cross_entropy(model(images), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        print(f"loss {loss.item():.6f}")
    model.eval()
    total = 0.0
    with torch.no_grad():
        for images, labels in test:
            total += nn.functional.cross_entropy(model(images.to(device)), labels.to(device)).item()
    print(f"test {total / len(test):.6f}")
ended(model, optimizer, scaler, torch.cuda.get_rng_state())
