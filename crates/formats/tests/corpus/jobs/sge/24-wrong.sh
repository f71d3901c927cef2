#!/bin/bash
#$ -pe mpi
#$ -pe mpi many
#$ -t 0-5
#$ -l h_rt=soon
#$ -l h_vmem=lots
#$ -j maybe
#$ -hold_jdi 12
#$ -p 5000
#$ -now y
#$ hello
./run
