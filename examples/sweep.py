"""Learning rates and seeds side by side with fit_many; the best rate is chosen on rows kept aside."""

import argparse

import fastnn
import numpy as np
from fastnn import data, losses, nn, optim, schedulers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs

batch_size, rates, seeds = 64, (1e-4, 1e-3, 1e-2), (0, 1, 2)
(X, Y), test = data.digits()
X, Y, aside = X[:-1000], Y[:-1000], (X[-1000:], Y[-1000:])
steps = epochs * data.steps_per_epoch(len(X), batch_size)


def build(lr, seed):
    """A trainer of its own: weights and order of the rows come from the seed."""
    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10), seed=seed)
    optimizer = optim.Adam(model.parameters(), lr=schedulers.CosineAnnealingDecay(lr, T_max=steps))
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), optimizer, seed=seed)


trainers = {(lr, seed): build(lr, seed) for lr in rates for seed in seeds}
histories = fastnn.fit_many(
    list(trainers.values()), X, Y, batch_size=batch_size, epochs=epochs, validation=aside
)
found = dict(zip(trainers, (history["val_accuracy"][-1] for history in histories), strict=True))

print("accuracy on the rows kept aside")
print("lr     ", *(f"seed {seed}" for seed in seeds), "  mean")
mean = {lr: np.mean([found[lr, seed] for seed in seeds]) for lr in rates}
for lr in rates:
    print(f"{lr:<7g}", *(f"{found[lr, seed]:6.1%}" for seed in seeds), f"{mean[lr]:6.1%}")
best = max(mean, key=mean.get)
score = np.mean([trainers[best, seed].evaluate(*test)["accuracy"] for seed in seeds])
print(f"best: lr {best:g}, test accuracy {score:.2%}")
