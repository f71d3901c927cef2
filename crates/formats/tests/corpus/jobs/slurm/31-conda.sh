#!/bin/bash
#SBATCH --job-name=align
#SBATCH --account=genomics
#SBATCH --partition=standard
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=24
#SBATCH --mem-per-cpu=4G
#SBATCH --time=0-08:00
#SBATCH --output=%x.%j.log
#SBATCH --get-user-env
source ~/miniconda3/etc/profile.d/conda.sh
conda activate align
bwa mem -t "$SLURM_CPUS_PER_TASK" ref.fa reads.fq > out.sam
