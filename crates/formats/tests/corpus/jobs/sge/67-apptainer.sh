#!/bin/bash -e
#$ -N cont
#$ -cwd
#$ -l h_vmem=16G -l mem_free=16G
#$ -pe smp 4
#$ -l os=el8|el9
#$ -l singularity
image=/containers/salmon_1.10.sif
apptainer exec --bind "$TMPDIR":/tmp "$image" \
    salmon quant -i idx -l A -1 r1.fq -2 r2.fq -p $NSLOTS -o quant
