#!/bin/bash
#$ -N whole
#$ -cwd
#$ -l num_proc=16,mem_total=64G
#$ -l load_avg=0.5,arch=lx-amd64
#$ -pe smp 16
export OMP_NUM_THREADS=$NSLOTS
./stream
