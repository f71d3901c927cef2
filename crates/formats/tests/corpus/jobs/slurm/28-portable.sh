#!/bin/bash
#SBATCH -n 4 -t 10
#PBS -l select=1:ncpus=4
#BSUB -n 4
#$ -pe mpi 4
mpirun -n 4 ./a.out
