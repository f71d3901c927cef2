#!/bin/bash
#SBATCH --nodes=1 --ntasks=1 --cpus-per-task=16
#SBATCH --mem=32G          # all that the solver needs
#SBATCH --time=90
#SBATCH --exclusive

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
srun --cpu_bind=cores ./solver
