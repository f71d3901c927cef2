#!/usr/bin/env bash

#SBATCH -J dask-worker
#SBATCH -p regular
#SBATCH -A project
#SBATCH -n 1
#SBATCH --cpus-per-task=24
#SBATCH --mem=94G
#SBATCH -t 00:30:00

python -m distributed.cli.dask_worker tcp://10.0.0.4:39211 --name dummy-name \
    --nthreads 6 --memory-limit 23.28GiB --nworkers 4 --nanny --death-timeout 60
