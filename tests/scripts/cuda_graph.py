"""A whole step captured into a CUDA graph, after three steps on a side stream, as torch advises."""

import torch
from ended import ended
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(64, 8, device="cuda"), torch.randint(0, 4, (64,), device="cuda")
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)).cuda()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, capturable=True)


def step():
    optimizer.zero_grad(set_to_none=True)
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


side = torch.cuda.Stream()
side.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(side):
    for _ in range(3):
        print(f"loss {step().item():.6f}")
torch.cuda.current_stream().wait_stream(side)

graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    loss = step()
for _ in range(50):
    x.copy_(torch.randn(64, 8, device="cuda"))
    graph.replay()
    print(f"replayed {loss.item():.6f}")
ended(model, optimizer, torch.cuda.get_rng_state())
