#!/bin/bash
#SBATCH --nodes=two
#SBATCH --time=1h
#SBATCH --memory=4G
#SBATCH --mem=4 GB
#SBATCH --ntask=4
#SBATCH --array=9-1
./x
