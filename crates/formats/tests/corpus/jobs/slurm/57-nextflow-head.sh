#!/bin/bash
#SBATCH --job-name=nf-head
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem-per-cpu=4G
#SBATCH --time=7-0
#SBATCH --qos=long
#SBATCH --no-requeue
#SBATCH --comment="head of a pipeline: its tasks are jobs of their own"
#SBATCH --export=ALL,NXF_OPTS=-Xmx6g,NXF_ANSI_LOG=false

module load java nextflow
nextflow run main.nf -profile slurm -resume \
    -work-dir "/scratch/$USER/work" --input sheet.csv --outdir results
