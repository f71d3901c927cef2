#!/bin/bash
#SBATCH --job-name=ray-tune
#SBATCH --nodes=4
#SBATCH --exclusive=user
#SBATCH --tasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-task=v100:2
#SBATCH --mem-per-gpu=32G
#SBATCH --time=12:00:00
#SBATCH --kill-on-invalid-dep=yes

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
ip=$(srun -N1 -n1 -w "$head" hostname -I | awk '{print $1}')

srun -N1 -n1 -w "$head" ray start --head --node-ip-address="$ip" \
    --port=6379 --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus 2 --block &
sleep 15
for ((i = 1; i < SLURM_JOB_NUM_NODES; i++)); do
    srun -N1 -n1 -w "${nodes[i]}" ray start --address "$ip:6379" --block &
    sleep 3
done
python -u tune.py --address "$ip:6379"
