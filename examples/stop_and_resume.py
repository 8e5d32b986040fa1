"""A training that is stopped halfway and goes on from its files, bit for bit as if nothing had happened."""

import argparse
import tempfile

import fastnn
import numpy as np
from fastnn import callbacks, data, losses, nn, optim

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs
(X, Y), test = data.digits()


def train(folder, until):
    """Begin, or go on from the newest file in the folder: what to run again after a crash or Ctrl-C."""
    hidden = nn.Linear(784, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.2)
    model = nn.Sequential(*hidden, nn.Linear(256, 10), seed=0)
    trainer = fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()), seed=0)
    checkpoint = callbacks.Checkpoint(folder)
    if checkpoint.latest() is not None:
        trainer.load(checkpoint.latest())
    rest = until - trainer.epoch
    if rest > 0:
        trainer.fit(X, Y, batch_size=128, epochs=rest, validation=test, callbacks=[checkpoint])
    return trainer


with tempfile.TemporaryDirectory() as stopped, tempfile.TemporaryDirectory() as whole:
    train(stopped, epochs // 2)  # the machine goes down here
    trainer, other = train(stopped, epochs), train(whole, epochs)

for epoch, accuracy in zip(trainer.history["epoch"], trainer.history["val_accuracy"], strict=True):
    print(f"epoch {epoch}: test accuracy {accuracy:.2%}")
pairs = zip(trainer.model.parameters(), other.model.parameters(), strict=True)
print("equal bit for bit:", all(np.array_equal(a.data, b.data) for a, b in pairs))
