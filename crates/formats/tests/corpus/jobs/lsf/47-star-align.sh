#!/bin/bash
#BSUB -J align_rna
#BSUB -q long
#BSUB -n 12
#BSUB -R "select[mem>40000] rusage[mem=40000] span[hosts=1]"
#BSUB -M 40000MB
#BSUB -W 10:00
#BSUB -oo logs/align.%J.out
#BSUB -eo logs/align.%J.err

set -euo pipefail
module load star/2.7
SAMPLE=liver_a
OUT=results/$SAMPLE
mkdir -p "$OUT" logs
STAR --runThreadN "$LSB_DJOB_NUMPROC" \
     --genomeDir ref/star_index \
     --readFilesIn reads/${SAMPLE}_1.fq.gz reads/${SAMPLE}_2.fq.gz \
     --readFilesCommand zcat \
     --outFileNamePrefix "$OUT/" \
     --outSAMtype BAM SortedByCoordinate
samtools index "$OUT/Aligned.sortedByCoord.out.bam"
