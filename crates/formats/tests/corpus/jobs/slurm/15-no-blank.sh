#!/bin/bash
#SBATCH--time=20:00:00
#SBATCH	--ntasks=2
# SBATCH --mem=4G
##SBATCH --exclusive
#sbatch --nodes=3
true
#SBATCH --partition=late
