#!/bin/bash
#SBATCH -J heat2d
#SBATCH -N 4
#SBATCH --ntasks-per-node=32
#SBATCH -t 02:00:00
#SBATCH -p compute
#SBATCH -A proj0042
#SBATCH -o logs/%x-%j.out
#SBATCH -e logs/%x-%j.err

module purge
module load gcc openmpi

srun --mpi=pmix ./heat2d input.nml
