#!/bin/bash
#BSUB -J "call[1-24]%8"
#BSUB -G genomics
#BSUB -q normal
#BSUB -n 2
#BSUB -R "rusage[mem=6GB/host:duration=8h:decay=0] span[ptile=2]"
#BSUB -W 720
#BSUB -r
#BSUB -o calls/log.%J.%I
# One piece of the genome for each index.
INTERVAL=$(sed -n "${LSB_JOBINDEX}p" intervals.list)
JAVA="-Xmx5g -XX:ParallelGCThreads=1"
gatk --java-options "$JAVA" HaplotypeCaller \
    -R ref/genome.fa -I merged.bam -L "$INTERVAL" \
    -ERC GVCF -O "calls/part.${LSB_JOBINDEX}.g.vcf.gz"
