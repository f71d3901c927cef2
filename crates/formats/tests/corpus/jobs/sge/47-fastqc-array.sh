#!/bin/bash
#$ -N fastqc
#$ -cwd
#$ -j y
#$ -o logs/fastqc.$TASK_ID.log
#$ -t 1-96
#$ -tc 24
#$ -l h_rt=2:00:00
#$ -l h_vmem=2G
set -euo pipefail
mkdir -p qc
# One line of the list for each task.
fq=$(awk -v n="$SGE_TASK_ID" 'NR == n' samples/fastq.list)
if [[ ! -s $fq ]]; then
    echo "task $SGE_TASK_ID: no file '$fq'" >&2
    exit 100
fi
fastqc --threads 1 --outdir qc "$fq"
