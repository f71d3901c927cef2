#!/bin/bash
#BSUB -J "nf-align[1-500]%40"
#BSUB -q normal
#BSUB -n 8
#BSUB -R "select[mem>16000] rusage[mem=16000] span[hosts=1]"
#BSUB -M 16000MB
#BSUB -W 12:00
#BSUB -o log/%J.%I.out
#BSUB -e log/%J.%I.err
module load star
STAR --runThreadN 8 --genomeDir idx --readFilesIn $(sed -n ${LSB_JOBINDEX}p list)
