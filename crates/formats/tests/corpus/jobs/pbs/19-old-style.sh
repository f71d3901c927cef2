#!/bin/csh
#PBS -l ncpus=8
#PBS -l mem=1000mw
#PBS -l cput=10:00:00
#PBS -l file=10gb
setenv OMP_NUM_THREADS 8
./run
