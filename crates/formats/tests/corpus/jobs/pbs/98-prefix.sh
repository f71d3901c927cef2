#!/bin/sh
#PBS -C "#QSUB"
#QSUB -l walltime=1:00
#PBS -N prefix
true
