#!/usr/bin/env bash
#$ -N snake
#$ -cwd
#$ -V
#$ -l h_rt=168:00:00,h_vmem=2G
#$ -q long.q
#$ -o snake.$JOB_ID.log -j y
# This job does nothing itself: it submits the others and waits for them.
conda run -n workflow snakemake --jobs 100 --latency-wait 60 \
    --cluster "qsub -cwd -V -pe smp {threads} -l h_vmem={resources.mem}G -terse" \
    --rerun-incomplete --keep-going
