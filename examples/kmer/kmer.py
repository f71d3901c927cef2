"""Counts the words of 8 letters (k-mers) in a generated genome.

Letter i of the genome is a hash of i, so every rank makes its own stretch and
the digest of all counts is the same everywhere and for any number of ranks.
"""

import hashlib
import sys

import numpy as np
from mpi4py import MPI

LENGTH, K = 2_000_000, 8
EXPECTED = "ff21aa555c00bc5c"

comm = MPI.COMM_WORLD
rank, ranks = comm.Get_rank(), comm.Get_size()


def letters(first, last):
    """Gives letters first..last as 0..3, by the mixing function of SplitMix64."""
    z = np.arange(first, last, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) & np.uint64(3)).astype(np.int64)


words = LENGTH - K + 1
first, last = rank * words // ranks, (rank + 1) * words // ranks
stretch = letters(first, last + K - 1)
codes = np.zeros(last - first, dtype=np.int64)
for i in range(K):
    codes = codes * 4 + stretch[i : i + last - first]

counts = np.empty(4**K, dtype=np.int64)
comm.Allreduce(np.bincount(codes, minlength=4**K).astype(np.int64), counts, op=MPI.SUM)
digest = hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()[:16]
good = counts.sum() == words and digest == EXPECTED
if rank == 0:
    most = int(counts.argmax())
    word = "".join("ACGT"[most >> 2 * (K - 1 - i) & 3] for i in range(K))
    print(f"{words} words of {K} letters on {ranks} ranks; {word} {counts.max()} times; digest {digest}")
    print("kmer ok" if good else "kmer WRONG", flush=True)
sys.exit(0 if good else 1)
