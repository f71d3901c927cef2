#!/bin/bash
#SBATCH --dependency=afterok:120:121,afterany:130
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --hold
#SBATCH --comment="merge of both halves"
#SBATCH --wait-all-nodes=1
cat part1 part2 > all
