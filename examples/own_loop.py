"""Layers, loss and optimizer in a training loop of your own, on the digits that ship with fastnn."""

import argparse

from fastnn import data, losses, nn, optim, schedulers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs

batch_size = 128
(X, Y), (X_test, Y_test) = data.digits()
model = nn.Sequential(
    nn.Linear(784, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10), seed=0
)
steps = epochs * data.steps_per_epoch(len(X), batch_size)
optimizer = optim.Adam(model.parameters(), lr=schedulers.CosineAnnealingDecay(1e-3, T_max=steps))
loss = losses.CrossEntropyLoss()

for epoch in range(epochs):
    model.train()
    total = 0.0
    for x, y in data.batches(X, Y, batch_size, epoch=epoch):
        value, gradient = loss(model(x), y)
        model.backward(gradient, input_grad=False)  # overwrites every .grad: nothing to zero
        optimizer.step()
        total += value * len(x)
    model.eval()
    accuracy = (model(X_test).argmax(axis=1) == Y_test).mean()
    print(f"epoch {epoch + 1}: loss {total / len(X):.4f}, test accuracy {accuracy:.2%}")
