#!/usr/bin/env bash
#BSUB -J nf_head -q oversubscribed -n 1 -W 168:00
#BSUB -R "rusage[mem=4G]" -M 4G
#BSUB -o nf.%J.log
#BSUB -env "all, NXF_OPTS=-Xms500m, NXF_HOME=/projects/shared/nxf"
#BSUB -Ne -u pipeline@lab.example

module load nextflow java
cd "$LS_SUBCWD" || exit 1
nextflow run main.nf \
    -profile lsf \
    -work-dir /scratch/nf-work \
    -resume \
    --input samples.csv
status=$?
echo "nextflow ended with $status on $(hostname)"
exit $status
