#!/bin/bash
#BSUB -J annotate
#BSUB -app apptainer
#BSUB -a "docker(registry/genes:3)"
#BSUB -n 6
#BSUB -R "select[mem>24GB && tmp>10GB] rusage[mem=24GB, tmp=10GB] span[hosts=1]"
#BSUB -g /annotate/batch
#BSUB -o annotate.%J.out
export APPTAINER_CACHEDIR=$TMPDIR/cache
apptainer exec --bind "$PWD:/data" genes.sif \
    annotate --threads 6 --in /data/genome.fa --out /data/genes.gff
