#!/bin/bash
#$ -N resnet
#$ -cwd
#$ -l gpu=1,gpu_type=a100
#$ -l h_vmem=48G,h_rt=48:00:00
#$ -pe smp 1
#$ -o runs/$JOB_ID.out -e runs/$JOB_ID.err
# The queue may have chosen a device already.
if [ -n "$SGE_HGR_gpu" ]; then
    CUDA_VISIBLE_DEVICES=${SGE_HGR_gpu// /,}
    export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES//cuda/}
fi
python -u train.py --epochs 90 --workers "$NSLOTS"
