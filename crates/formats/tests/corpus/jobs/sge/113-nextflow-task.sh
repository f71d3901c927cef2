#!/bin/bash
#$ -wd /scratch/work/7c/11de
#$ -N nf-FASTQC_sample1
#$ -o /scratch/work/7c/11de/.command.log
#$ -j y
#$ -terse
#$ -notify
#$ -q long.q
#$ -pe smp 4
#$ -l h_rt=02:00:00
#$ -l h_rss=8192M,mem_free=8192M
#$ -S /bin/bash
cd /scratch/work/7c/11de
bash .command.run
