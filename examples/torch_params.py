"""fastnn's Adam updates the parameters of a PyTorch network where they lie: no copy, no torch.optim."""

import argparse
import sys

from fastnn import data, ops

try:
    import torch
except ImportError:
    sys.exit("this example needs PyTorch: pip install torch")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs

torch.manual_seed(0)
(X, Y), (X_test, Y_test) = data.digits()
net = torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
params = [p.detach() for p in net.parameters()]  # the same memory, outside autograd
m, v = ([torch.zeros_like(p) for p in params] for _ in range(2))

step = 0
for epoch in range(epochs):
    total = 0.0
    for x, y in data.batches(X, Y, 128, epoch=epoch):
        net.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        step += 1
        ops.adam_(params, [p.grad for p in net.parameters()], m, v, step=step, lr=1e-3)
        total += loss.item() * len(x)
    with torch.no_grad():
        classes = net(torch.from_numpy(X_test)).argmax(dim=1).numpy()
    accuracy = (classes == Y_test).mean()
    print(f"epoch {epoch + 1}: loss {total / len(X):.4f}, test accuracy {accuracy:.2%}")
