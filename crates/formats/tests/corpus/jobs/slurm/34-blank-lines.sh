#!/bin/bash

# A comment before directives.

   # One with blanks in front.
#SBATCH --ntasks=3

	
#SBATCH --ntasks-per-node=1
set -e
srun hostname
