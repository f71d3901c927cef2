#!/bin/bash
#SBATCH --time=abc
#SBATCH --mem=1.5G
#SBATCH --nodes=4-2
#SBATCH --array=1-1000000000
#SBATCH --dependency=afterok:$JOBID,bogus:2
#SBATCH --signal=FOO
#SBATCH --cpus-per-task=0
#SBATCH --open-mode=both
#SBATCH --job-name="open
true
