"""The same as pingpong.c, in mpi4py and NumPy."""

import signal
import sys

import numpy as np
from mpi4py import MPI

signal.alarm(60)
comm = MPI.COMM_WORLD
rank = comm.Get_rank()
if comm.Get_size() < 2:
    sys.exit(f"pingpong: needs 2 ranks, has {comm.Get_size()}")


def half_round_trip(size, rounds):
    """Gives seconds for one way of a message of `size` bytes."""
    buffer = np.full(size, rank, dtype=np.uint8)
    comm.Barrier()
    start = MPI.Wtime()
    for i in range(rounds):
        if rank == 0:
            buffer[-1] = i % 256
            comm.Send(buffer, dest=1)
            comm.Recv(buffer, source=1)
            if buffer[-1] != (i + 1) % 256:
                print(f"pingpong: round {i} of {size} bytes came back wrong", file=sys.stderr)
                comm.Abort(1)
        elif rank == 1:
            comm.Recv(buffer, source=0)
            buffer[-1] = (int(buffer[-1]) + 1) % 256
            comm.Send(buffer, dest=0)
    return (MPI.Wtime() - start) / rounds / 2


SMALL, LARGE = 8, 4 << 20
half_round_trip(SMALL, 100)
latency = half_round_trip(SMALL, 2000)
half_round_trip(LARGE, 5)
large = half_round_trip(LARGE, 50)
if rank == 0:
    print(f"8 B: {latency * 1e6:.2f} us\n4 MiB: {LARGE / large / 1e9:.2f} GB/s\npingpong ok")
