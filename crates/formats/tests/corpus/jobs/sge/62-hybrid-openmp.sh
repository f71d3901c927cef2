#!/bin/bash
#$ -N hybrid
#$ -cwd
#$ -pe mpi_8_tasks_per_node 32
#$ -l exclusive=1
#$ -l h_rt=4:0:0
#$ -binding linear:4
export OMP_NUM_THREADS=4
hosts=$(awk 'NF { printf "%s%s:%d", sep, $1, $2/4; sep="," }' "$PE_HOSTFILE")
mpirun --host "$hosts" -x OMP_NUM_THREADS ./ocean.x
