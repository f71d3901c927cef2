#!/bin/bash
#SBATCH -J llm-pretrain
#SBATCH -N 4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=h100:8
#SBATCH -c 96
#SBATCH --mem=0            # all of the node
#SBATCH --exclusive
#SBATCH -t 2-00:00
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH -o run/%j/out.log

export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export NCCL_DEBUG=WARN
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 --rdzv-backend c10d \
    --rdzv-endpoint "$MASTER_ADDR:29500" train.py --config big.yaml
