"""The heat equation on a square plate, cut into strips of rows.

    du/dt = d2u/dx2 + d2u/dy2,  u = 0 on the rim,  u(0) = sin(pi x) sin(pi y)

An explicit step multiplies this start by one factor, so the result of the
discrete problem is known exactly and every digit can be checked.
"""

import argparse
import sys

import numpy as np
from mpi4py import MPI

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", type=int, default=512, help="inner points along one side")
parser.add_argument("--steps", type=int, default=500, help="steps in time")
args = parser.parse_args()

comm = MPI.COMM_WORLD
rank, ranks = comm.Get_rank(), comm.Get_size()
if ranks > args.size:
    sys.exit(f"heat: {ranks} ranks cannot share {args.size} rows")

n, steps = args.size, args.steps
h = 1.0 / (n + 1)
r = 0.2  # dt / h^2; stable below 0.25
first, last = rank * n // ranks, (rank + 1) * n // ranks
above = rank - 1 if rank > 0 else MPI.PROC_NULL
below = rank + 1 if rank < ranks - 1 else MPI.PROC_NULL

# One row and column of rim or neighbour on each side.
x = np.arange(n + 2) * h
y = np.arange(first, last + 2) * h
start = np.outer(np.sin(np.pi * y), np.sin(np.pi * x))
start[:, [0, -1]] = 0.0
if above == MPI.PROC_NULL:
    start[0] = 0.0
if below == MPI.PROC_NULL:
    start[-1] = 0.0

u, new = start.copy(), start.copy()
comm.Barrier()
begin = MPI.Wtime()
for _ in range(steps):
    comm.Sendrecv(u[1], dest=above, recvbuf=u[-1], source=below)
    comm.Sendrecv(u[-2], dest=below, recvbuf=u[0], source=above)
    inner = new[1:-1, 1:-1]
    np.add(u[:-2, 1:-1], u[2:, 1:-1], out=inner)
    inner += u[1:-1, :-2]
    inner += u[1:-1, 2:]
    inner *= r
    inner += (1 - 4 * r) * u[1:-1, 1:-1]
    u, new = new, u
seconds = comm.allreduce(MPI.Wtime() - begin, op=MPI.MAX)

factor = (1 - 8 * r * np.sin(np.pi * h / 2) ** 2) ** steps
error = np.abs(u[1:-1, 1:-1] - factor * start[1:-1, 1:-1]).max()
residual = comm.allreduce(error, op=MPI.MAX)
if rank == 0:
    print(f"{n} x {n} points, {steps} steps, {ranks} ranks: {seconds:.3f} s, residual {residual:.1e}")
    print("heat ok" if residual < 1e-10 else "heat WRONG", flush=True)
sys.exit(0 if residual < 1e-10 else 1)
