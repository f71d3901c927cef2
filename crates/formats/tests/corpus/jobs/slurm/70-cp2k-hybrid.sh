#!/bin/bash
#SBATCH --account=chem-water
#SBATCH --job-name=H2O-256
#SBATCH --nodes=16
#SBATCH --ntasks-per-node=16
#SBATCH --cpus-per-task=8
#SBATCH --threads-per-core=1
#SBATCH --core-spec=4
#SBATCH --contiguous
#SBATCH --acctg-freq=task=15,energy=30
#SBATCH --profile=Task,Energy
#SBATCH --time=01:00:00

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK OMP_PLACES=cores OMP_PROC_BIND=close
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --cpu-bind=cores cp2k.psmp -i H2O-256.inp -o H2O-256.out
