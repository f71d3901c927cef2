#!/usr/bin/env bash

#$ -N dask-worker
#$ -q default.q
#$ -P project
#$ -l h_vmem=16G
#$ -l h_rt=00:30:00
#$ -cwd
#$ -j y
#$ -V

python -m distributed.cli.dask_worker tcp://10.1.1.1:40217 --name "dask.$JOB_ID" --nthreads 4
