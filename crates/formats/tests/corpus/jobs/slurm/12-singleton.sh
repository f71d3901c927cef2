#!/bin/bash
#SBATCH --job-name=nightly
#SBATCH --dependency=singleton
#SBATCH --begin=tomorrow
#SBATCH --requeue
./nightly
