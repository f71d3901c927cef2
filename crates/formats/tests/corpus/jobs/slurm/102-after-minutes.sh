#!/bin/bash
#SBATCH --job-name=watch
#SBATCH --dependency=after:100+5:101,singleton
#SBATCH --time=30
#SBATCH --mem=500
sstat -j 100 --format=JobID,MaxRSS,AveCPU
