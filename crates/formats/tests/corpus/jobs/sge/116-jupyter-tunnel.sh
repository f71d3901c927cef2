#!/bin/bash -l
#$ -N lab
#$ -cwd -V
#$ -pe omp 4
#$ -l h_rt=8:00:00,mem_per_core=8G
#$ -l gpus=1,gpu_c=7.0
#$ -o lab.$JOB_ID.log -j y
#$ -m bea -M someone@example.org
port=$((8000 + RANDOM % 1000))
echo "ssh -N -L $port:$HOSTNAME:$port $USER@login"
jupyter lab --no-browser --ip="$HOSTNAME" --port=$port
