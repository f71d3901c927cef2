"""Every rank says who it is and on which node."""

from mpi4py import MPI

comm = MPI.COMM_WORLD
rank = comm.Get_rank()
size = comm.Get_size()
node = MPI.Get_processor_name()

# One string, so that the lines of several ranks do not mix.
print(f"Hello from process {rank} of {size} on node {node}\n", end="", flush=True)
