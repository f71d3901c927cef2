#!/bin/bash
#$ -pe smp 8
#$ -l mem_free=4G,h_vmem=6G
#$ -S /bin/bash
export OMP_NUM_THREADS=$NSLOTS
./solve
