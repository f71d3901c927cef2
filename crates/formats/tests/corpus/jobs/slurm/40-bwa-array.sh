#!/bin/bash -l
#SBATCH --job-name=bwa_mem
#SBATCH --array=1-96%12
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=4G
#SBATCH --time=1-12:00:00
#SBATCH --output=logs/%x.%A_%4a.out
#SBATCH --error=logs/%x.%A_%4a.err
#SBATCH --mail-type=FAIL,TIME_LIMIT_80

module load bwa/0.7.17 samtools/1.17
set -euo pipefail
SAMPLE=$(sed -n "${SLURM_ARRAY_TASK_ID}p" samples.txt)
bwa mem -t "$SLURM_CPUS_PER_TASK" ref/hg38.fa "fastq/${SAMPLE}_R1.fq.gz" "fastq/${SAMPLE}_R2.fq.gz" |
    samtools sort -@ 4 -o "bam/${SAMPLE}.bam" -
