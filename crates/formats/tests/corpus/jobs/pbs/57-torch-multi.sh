#!/bin/bash
#PBS -N llm
#PBS -q gpu
#PBS -l select=4:ncpus=32:ngpus=4:mpiprocs=4:mem=480gb:gpu_type=h100
#PBS -l place=scatter:excl
#PBS -l walltime=48:00:00
#PBS -l filesystems=home:flare
#PBS -W group_list=ml
#PBS -j oe

cd "$PBS_O_WORKDIR"
mapfile -t hosts < <(sort -u "$PBS_NODEFILE")
head=${hosts[0]}
mpiexec -n "${#hosts[@]}" --ppn 1 --hostfile "$PBS_NODEFILE" \
    torchrun --nnodes "${#hosts[@]}" --nproc_per_node 4 \
    --rdzv_backend c10d --rdzv_endpoint "$head:29500" train.py --config big.yaml
