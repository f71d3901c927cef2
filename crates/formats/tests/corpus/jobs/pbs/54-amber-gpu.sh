#!/bin/bash
#PBS -N amber
#PBS -l nodes=1:ppn=1:gpus=1:shared
#PBS -l pmem=8000mb,pvmem=16000mb
#PBS -l walltime=3:00:00:00
#PBS -q gpu@batch
cd $PBS_O_WORKDIR
export CUDA_VISIBLE_DEVICES=$(sed 's/.*gpu//' "$PBS_GPUFILE" | paste -sd,)
pmemd.cuda -O -i md.in -p top.prmtop -c eq.rst -r md.rst -x md.nc -o md.out
