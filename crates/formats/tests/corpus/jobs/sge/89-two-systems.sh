#!/bin/bash
#SBATCH --job-name=both
#$ -N both
#$ -cwd
#$ -l h_rt=3600
./both
