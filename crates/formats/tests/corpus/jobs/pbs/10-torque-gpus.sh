#!/bin/bash
#PBS -l nodes=2:ppn=4:gpus=1:exclusive_process
#PBS -l walltime=1:00:00:00
#PBS -V
./gpu
