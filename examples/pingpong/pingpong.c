/* Two ranks pass a message to and fro: latency at 8 bytes, bandwidth at 4 MiB.
 * A hello program shows that ranks start; only large messages show that they
 * can share memory. The alarm ends a run that hangs. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SMALL = 8, LARGE = 4 << 20 };

static char *buffer;

static double half_round_trip(int rank, int bytes, int rounds) {
    memset(buffer, rank, bytes);
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    for (int i = 0; i < rounds; i++) {
        if (rank == 0) {
            buffer[bytes - 1] = (char)i;
            MPI_Send(buffer, bytes, MPI_CHAR, 1, i, MPI_COMM_WORLD);
            MPI_Recv(buffer, bytes, MPI_CHAR, 1, i, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            if (buffer[bytes - 1] != (char)(i + 1)) {
                fprintf(stderr, "pingpong: round %d of %d bytes came back wrong\n", i, bytes);
                MPI_Abort(MPI_COMM_WORLD, 1);
            }
        } else if (rank == 1) {
            MPI_Recv(buffer, bytes, MPI_CHAR, 0, i, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            buffer[bytes - 1]++;
            MPI_Send(buffer, bytes, MPI_CHAR, 0, i, MPI_COMM_WORLD);
        }
    }
    return (MPI_Wtime() - start) / rounds / 2;
}

/* Measures for about a second, and at most this many rounds: ranks may be
 * on one processor or on machines that are emulated. */
static double measured(int rank, int bytes, int most) {
    double once = half_round_trip(rank, bytes, 5);
    int rounds = 1.0 / (2 * once) < most ? 1.0 / (2 * once) : most;
    if (rounds < 5) rounds = 5;
    MPI_Bcast(&rounds, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return half_round_trip(rank, bytes, rounds);
}

int main(int argc, char **argv) {
    int rank, size;
    alarm(60);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size < 2) {
        fprintf(stderr, "pingpong: needs 2 ranks, has %d\n", size);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    buffer = malloc(LARGE);
    if (!buffer) MPI_Abort(MPI_COMM_WORLD, 1);
    half_round_trip(rank, SMALL, 100);
    double latency = measured(rank, SMALL, 5000);
    double large = measured(rank, LARGE, 50);
    if (rank == 0) {
        printf("8 B: %.2f us\n4 MiB: %.2f GB/s\npingpong ok\n", latency * 1e6, LARGE / large / 1e9);
    }
    free(buffer);
    /* MPICH 3.4 to 4.1 over TCP by UCX waits for ever in MPI_Finalize where one rank
     * begins it while another still receives: nobody does before all are quiet. */
    MPI_Barrier(MPI_COMM_WORLD);
    usleep(200000);
    MPI_Finalize();
    return 0;
}
