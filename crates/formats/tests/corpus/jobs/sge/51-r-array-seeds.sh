#!/bin/bash
#$ -N bootstrap
#$ -t 1-1000:10
#$ -tc 50
#$ -cwd
#$ -o /dev/null
#$ -e errors/
#$ -l h_rt=0:45:0
#$ -v R_LIBS_USER,OMP_NUM_THREADS=1
first=$SGE_TASK_ID
last=$((SGE_TASK_ID + SGE_TASK_STEPSIZE - 1))
[ "$last" -gt "$SGE_TASK_LAST" ] && last=$SGE_TASK_LAST
for seed in $(seq "$first" "$last"); do
    Rscript --vanilla boot.R "$seed" > "results/boot_$seed.csv"
done
