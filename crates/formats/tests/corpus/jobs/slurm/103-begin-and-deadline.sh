#!/bin/bash
#SBATCH --job-name=night
#SBATCH --begin=2031-02-03T04:05
#SBATCH --deadline=2031-02-03T09:00:00
#SBATCH --time=4:00:00 --time-min=2:00:00
#SBATCH --hold
./reindex
