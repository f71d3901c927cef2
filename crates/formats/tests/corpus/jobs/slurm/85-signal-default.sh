#!/bin/bash
#SBATCH --job-name=climate
#SBATCH --ntasks=96
#SBATCH --time=08:00:00
#SBATCH --signal=SIGINT
# No time: a minute before the end, and to the steps alone.
srun ./climate.exe --checkpoint-on-sigint
