#!/bin/bash
#$ -N sweep
#$ -cwd
#$ -t 1-24 -tc 4
#$ -l gpu=2,h_vmem=40G,h_rt=24:0:0
#$ -hold_jid_ad prepare
#$ -v WANDB_MODE=offline,CUDA_DEVICE_ORDER=PCI_BUS_ID
#$ -r y
torchrun --standalone --nproc_per_node=2 train.py --trial "$SGE_TASK_ID"
