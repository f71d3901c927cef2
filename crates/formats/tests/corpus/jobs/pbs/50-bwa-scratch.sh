#!/bin/bash -l
#PBS -l nodes=1:ppn=12
#PBS -l mem=48gb
#PBS -l walltime=20:00:00
#PBS -N bwa_mem
#PBS -e stderr.txt -o stdout.txt
#PBS -m ae
#PBS -M reads@genomics.example
set -euo pipefail
sample=${SAMPLE:-S01}
work=$(mktemp -d "$TMPDIR/bwa.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp "$PBS_O_WORKDIR/fastq/${sample}"_R?.fastq.gz "$work"
cd "$work"
bwa mem -t 12 "$HOME/ref/genome.fa" ${sample}_R1.fastq.gz ${sample}_R2.fastq.gz |
    samtools sort -@ 4 -o $sample.bam -
samtools index $sample.bam
cp $sample.bam $sample.bam.bai "$PBS_O_WORKDIR/bam/"
