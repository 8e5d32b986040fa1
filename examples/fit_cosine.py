"""Warm-up and cosine decay with Trainer.fit, on the digits that ship with fastnn."""

import argparse

import fastnn
from fastnn import data, losses, nn, optim, schedulers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs

batch_size = 128
(X, Y), test = data.digits()
model = nn.Sequential(
    nn.Linear(784, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10), seed=0
)

# The rate rises over the first half epoch, then falls along half a cosine until the last update.
steps = data.steps_per_epoch(len(X), batch_size)
warmup = steps // 2
cosine = schedulers.CosineAnnealingDecay(2e-3, T_max=epochs * steps - warmup)
schedule = schedulers.LinearWarmup(cosine, warmup)
optimizer = optim.Adam(model.parameters(), lr=schedule)

trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optimizer, seed=0)
history = trainer.fit(X, Y, batch_size=batch_size, epochs=epochs, validation=test)
rows = zip(history["epoch"], history["lr"], history["loss"], history["val_accuracy"], strict=True)
for epoch, lr, loss, accuracy in rows:
    print(f"epoch {epoch:.0f}: lr {lr:.2e}, loss {loss:.4f}, test accuracy {accuracy:.2%}")
