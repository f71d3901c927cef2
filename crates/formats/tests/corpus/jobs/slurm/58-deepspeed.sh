#!/bin/bash
#SBATCH --job-name=ds-zero3
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:a100:4
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=23:59:59
#SBATCH --gpu-bind=none
#SBATCH --signal=B:TERM@300

hosts=$(mktemp hostfile.XXXXXX)
for h in $(scontrol show hostnames "$SLURM_NODELIST"); do
    echo "$h slots=4" >> "$hosts"
done
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
deepspeed --hostfile "$hosts" --master_port $MASTER_PORT \
    pretrain.py --deepspeed_config zero3.json &
child=$!
trap 'kill -TERM $child; wait $child' TERM
wait $child
