"""Regression on columns of very different size: inputs and target scaled, stopped when it gets no better."""

import argparse

import fastnn
import numpy as np
from fastnn import callbacks, losses, nn, optim, preprocessing

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=200, help="at most")
epochs = parser.parse_args().epochs

# Flats: square metres, metres from the centre, year; the price bends and has noise of 10,000.
rng = np.random.default_rng(0)
X = rng.uniform([20, 0, 1900], [200, 2e4, 2025], (3000, 3))
y = 4000 * X[:, 0] * np.exp(-X[:, 1] / 1e4) + 20 * (X[:, 2] - 1960) ** 2 + rng.normal(0, 1e4, 3000)
train, stop, test = np.split(np.arange(3000), [2000, 2500])  # rows to learn from, to stop by, to judge by

# The numbers of the training rows scale all rows; those of X are saved with the model.
scaler = preprocessing.StandardScaler().fit(X[train])
target = preprocessing.StandardScaler().fit(y[train, None])
scaled = target.transform(y[:, None])
hidden = nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
model = nn.Sequential(nn.Standardize(scaler), *hidden, nn.Linear(64, 1), seed=0)
trainer = fastnn.Trainer(model, losses.MSELoss(), optim.Adam(model.parameters(), lr=3e-3))
history = trainer.fit(
    X[train],
    scaled[train],
    batch_size=50,
    epochs=epochs,
    validation=(X[stop], scaled[stop]),
    callbacks=[callbacks.EarlyStopping(patience=20)],  # gives the best parameters back
)

predicted = target.inverse_transform(trainer.predict(X[test]))[:, 0]
error = np.sqrt(np.mean((predicted - y[test]) ** 2))
print(f"{history.epochs} epochs, test RMSE {error:.0f} (the noise: 10000, all prices: {y[test].std():.0f})")
