/* Two ranks: half of a round trip of 8 B in microseconds, and 4 MiB in GB/s. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double half_trip(int rank, char *buffer, int bytes, int rounds) {
  MPI_Barrier(MPI_COMM_WORLD);
  double start = MPI_Wtime();
  for (int i = 0; i < rounds; i++) {
    if (rank == 0) {
      MPI_Send(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
      MPI_Recv(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else if (rank == 1) {
      MPI_Recv(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      MPI_Send(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
    }
  }
  return (MPI_Wtime() - start) / (2.0 * rounds);
}

int main(int argc, char **argv) {
  int rank, size;
  const int large = 4 << 20;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size != 2) {
    fprintf(stderr, "needs 2 ranks, has %d\n", size);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  char *buffer = malloc(large);
  memset(buffer, rank, large);
  half_trip(rank, buffer, 8, 1000);
  double small = half_trip(rank, buffer, 8, 50000);
  half_trip(rank, buffer, large, 5);
  double big = half_trip(rank, buffer, large, 100);
  if (rank == 0)
    printf("pingpong %.4f us %.4f GB/s\n", small * 1e6, large / big / 1e9);
  free(buffer);
  MPI_Finalize();
  return 0;
}
