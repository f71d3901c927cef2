"""Pi by throwing darts: 64 streams of random numbers, shared out to the ranks.

A stream belongs to the work, not to the rank, so any number of ranks counts
exactly the same hits.
"""

import math
import sys

import numpy as np
from mpi4py import MPI

STREAMS, DARTS = 64, 100_000

comm = MPI.COMM_WORLD
rank, ranks = comm.Get_rank(), comm.Get_size()
hits = 0
for seed in np.random.SeedSequence(2024).spawn(STREAMS)[rank::ranks]:
    rng = np.random.default_rng(seed)
    x, y = rng.random(DARTS), rng.random(DARTS)
    hits += int(np.count_nonzero(x * x + y * y < 1))

hits = comm.allreduce(hits, op=MPI.SUM)
estimate = 4 * hits / (STREAMS * DARTS)
# Four standard deviations of the mean of that many darts.
tolerance = 4 * math.sqrt(math.pi * (4 - math.pi) / (STREAMS * DARTS))
good = abs(estimate - math.pi) < tolerance
if rank == 0:
    print(f"{STREAMS * DARTS} darts on {ranks} ranks: pi = {estimate:.6f}, off by {estimate - math.pi:+.6f}")
    print("pi ok" if good else "pi WRONG", flush=True)
sys.exit(0 if good else 1)
