#!/bin/bash
#PBS -Y
#PBS -l walltime=soon
#PBS -l select=two:ncpus=1
#PBS -l select=1:ncpus
#PBS -j both
#PBS -W depend=before:12
#PBS -W stagein=a@b:c
#PBS -N
#PBS hello
./run
