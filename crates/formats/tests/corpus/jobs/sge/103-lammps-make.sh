#!/bin/bash
#$ -N melt
#$ -cwd
#$ -pe impi* 20-
#$ -l num_proc=20,ib
#$ -js 100 -p 0 -ar 77
. /etc/profile.d/modules.sh
module load lammps
mpirun -genv I_MPI_PIN 1 -np "$NSLOTS" lmp -in in.melt
