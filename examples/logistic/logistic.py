"""Logistic regression, data-parallel: each rank holds a part of the data.

The samples come in chunks with a seed each, so the data do not depend on how
many ranks share them. Ranks add up their gradients and stay in step.
"""

import sys

import numpy as np
from mpi4py import MPI

FEATURES, CHUNKS, CHUNK, ROUNDS, RATE = 20, 64, 500, 150, 1.0

comm = MPI.COMM_WORLD
rank, ranks = comm.Get_rank(), comm.Get_size()
truth = np.random.default_rng(7).normal(size=FEATURES)


def samples(chunk):
    """Makes one chunk: features, and labels that follow `truth` with some noise."""
    rng = np.random.default_rng([42, chunk])
    features = rng.normal(size=(CHUNK, FEATURES))
    labels = features @ truth + rng.normal(scale=0.5, size=CHUNK) > 0
    return features, labels.astype(float)


parts = [samples(chunk) for chunk in range(rank, CHUNKS, ranks)]
features = np.concatenate([part[0] for part in parts]) if parts else np.empty((0, FEATURES))
labels = np.concatenate([part[1] for part in parts]) if parts else np.empty(0)

weights = np.zeros(FEATURES)
gradient = np.empty(FEATURES)
for _ in range(ROUNDS):
    predicted = 1 / (1 + np.exp(-features @ weights))
    comm.Allreduce(features.T @ (predicted - labels), gradient, op=MPI.SUM)
    weights -= RATE * gradient / (CHUNKS * CHUNK)

right = comm.allreduce(int(((features @ weights > 0) == (labels > 0.5)).sum()), op=MPI.SUM)
accuracy = right / (CHUNKS * CHUNK)
cosine = weights @ truth / np.linalg.norm(weights) / np.linalg.norm(truth)
in_step = comm.allreduce(weights.tobytes() == comm.bcast(weights.tobytes()), op=MPI.LAND)
good = accuracy > 0.95 and cosine > 0.999 and in_step
if rank == 0:
    print(f"{CHUNKS * CHUNK} samples on {ranks} ranks: accuracy {accuracy:.4f}, cosine {cosine:.5f}")
    print("logistic ok" if good else "logistic WRONG", flush=True)
sys.exit(0 if good else 1)
