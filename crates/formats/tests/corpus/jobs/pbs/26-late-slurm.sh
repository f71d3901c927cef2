#!/bin/bash
#PBS -N portable
#PBS -l select=2:ncpus=4:mpiprocs=4
#SBATCH -n 8
mpirun ./a.out
