#!/bin/bash
#SBATCH --ntasks=40
#SBATCH --time=1:30:00
#SBATCH --mem-per-cpu=2G
#SBATCH --job-name=pack
#SBATCH --spread-job
#SBATCH --nice

module load parallel
run="srun --exclusive -N1 -n1 -c1"
parallel -j "$SLURM_NTASKS" --joblog pack.log --resume --delay 0.2 \
    "$run ./one.sh {} > out/{/.}.txt" :::: inputs.list
