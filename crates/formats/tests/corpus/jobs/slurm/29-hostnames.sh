#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=8
#SBATCH --time=2-00:00:00 --time-min=6:00:00
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -1)
srun --nodes=1 -w "$head" ray start --head &
srun ray start --address="$head:6379"
