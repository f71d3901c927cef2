#!/bin/bash
#SBATCH --array=0-1000:25%8
#SBATCH --job-name=chunk
#SBATCH -t 45:30
#SBATCH -o out/%A/%4a_%N.txt
#SBATCH -k

# each task takes 25 lines, from its own index on
from=$((SLURM_ARRAY_TASK_ID + 1))
to=$((SLURM_ARRAY_TASK_ID + SLURM_ARRAY_TASK_STEP))
sed -n "${from},${to}p" urls.txt | while read -r url; do
    ./fetch-one "$url"
done
