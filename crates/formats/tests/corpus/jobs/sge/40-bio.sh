#!/bin/bash
#$ -S /bin/bash
#$ -N star_align
#$ -cwd
#$ -V
#$ -pe smp 8
#$ -l h_vmem=6G,h_rt=24:00:00,mem_free=6G
#$ -t 1-48
#$ -tc 10
#$ -o logs/$JOB_NAME.$JOB_ID.$TASK_ID.out
#$ -j y
#$ -q all.q,long.q@node1*
STAR --runThreadN $NSLOTS --readFilesIn $(sed -n ${SGE_TASK_ID}p files.txt)
