#!/bin/bash
#SBATCH -J step2
#SBATCH --dependency=afterok:4711:4712,afterany:4713
#SBATCH --kill-on-invalid-dep=yes
./collect.sh
